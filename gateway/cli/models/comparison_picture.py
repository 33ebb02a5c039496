"""A picture of how models differ, as SVG: a group of bars for each number. It reads on light and on dark paper."""

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from gateway.local.models.card import ModelCard

from .cells import format_amount

NUMBERS = (
    "parameters",
    "training_tokens",
    "layers",
    "hidden_size",
    "ffn_size",
    "heads",
    "kv_heads",
    "vocabulary",
    "context",
)
WIDTH, LEFT, RIGHT, TOP = 900, 300, 90, 14
BAR, GAP, HEAD = 16, 4, 26
COLOURS = ("#0969da", "#bf8700", "#1a7f37", "#cf222e", "#8250df")

STYLE = """\
  text { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: #57606a }
  .property { font-weight: 700 }
  @media (prefers-color-scheme: dark) { text { fill: #9198a1 } }"""


def draw_comparison(cards: Sequence[ModelCard]) -> str:
    """Return the SVG. Bars of one property share a scale; a property that no model gives is left out."""
    lines: list[str] = []
    y = TOP
    for name in NUMBERS:
        values = [getattr(card, name) for card in cards]
        if not any(values):
            continue
        lines += _draw_group(name, cards, values, y)
        y += HEAD + len(cards) * (BAR + GAP)
    title = escape(" and ".join(card.name for card in cards))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + TOP}" role="img">'
    return "\n".join([head, f"<title>{title}</title>", f"<style>\n{STYLE}\n</style>", *lines, "</svg>", ""])


def _draw_group(name: str, cards: Sequence[ModelCard], values: Sequence[int | None], y: int) -> Iterator[str]:
    yield f'<text class="property" x="0" y="{y + BAR}">{name}</text>'
    scale = (WIDTH - LEFT - RIGHT) / max(value or 0 for value in values)
    for index, (card, value) in enumerate(zip(cards, values, strict=True)):
        top = y + HEAD + index * (BAR + GAP)
        middle, length = top + BAR - 4, (value or 0) * scale
        colour = COLOURS[index % len(COLOURS)]
        yield f'<text x="16" y="{middle}">{escape(card.name)}</text>'
        yield f'<rect x="{LEFT}" y="{top}" width="{length:.1f}" height="{BAR}" fill="{colour}"/>'
        text = "not known" if value is None else format_amount(value)
        yield f'<text x="{LEFT + length + 6:.1f}" y="{middle}">{text}</text>'
