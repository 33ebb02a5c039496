"""Tables of docs/results/flywheel.json."""

from urllib.parse import quote

from benchmarks.flywheel import ADAPTER, BASE
from tools.docs.measured.results import found_in
from tools.docs.table import table

NAME = "flywheel"


def account_table() -> str:
    """What `smallfirst export` told of the measured round."""
    account = found_in(NAME)["account"]
    return table(("", "exchanges"), [(what, _linked("{:.0f}", "account", what)) for what in account])


def flywheel_table() -> str:
    """The model without and with what it was taught."""

    def losses(of: str) -> list[str]:
        return [_linked("{:.3f}", "losses", when, of) for when in ("before", "after")]

    asked = _linked("{:.0f}", "asked")
    rows = [
        ("loss of the training set (nats a token)", *losses("train")),
        ("loss of the validation set", *losses("validation")),
        (
            f"right queue, of {asked} held-out tickets",
            *(_linked("{:.0f}", "right", one) for one in (BASE, ADAPTER)),
        ),
    ]
    return table(("", "without", "with the adapter"), rows) + "\n\n" + _seconds()


def _seconds() -> str:
    parts = [f"{what} {_linked('{:.0f}', 'seconds', what)} s" for what in found_in(NAME)["seconds"]]
    return f"Taken on two cores, in seconds: {', '.join(parts)}."


def _linked(shape: str, *path: str) -> str:
    value = found_in(NAME)
    for key in path:
        value = value[key]
    pointer = "".join(f"/{quote(key)}" for key in path)
    return f"[{shape.format(value)}](../results/{NAME}.json#{pointer})"
