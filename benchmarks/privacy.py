"""How well private data is found, and what looking for it costs.

`python -m benchmarks.privacy`: sentences that are made here hold one value each, planted in plain writing, disguised,
or a look-alike that nobody should hide (a wrong checksum, a timestamp, a version). Counted is whether the value is
found under its name, and what else is. Then whole texts of several kinds are looked through, and one of 200,000
tokens. Results: docs/results/privacy.json.
"""

import random
import resource
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import sqrt
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks import results
from gateway.skills.privacy.detection import MAX_SCAN_S, ScanTimeout, get_detector
from gateway.skills.privacy.screen import PrivacyScreen
from policies.schema.private import Private

SEED = 20261126
EACH = 100
"""Sentences of each kind."""
AROUND = "卡号写给好"
"""Letters that are no part of what they surround."""
WIDE = {ord(digit): ord(digit) + 0xFEE0 for digit in "0123456789"}
SENTENCES = (
    "Please send it to {} by Friday.",
    "{} is what the customer wrote.",
    "Der Kunde nannte {} am Telefon.",
    "Ma référence est {}, merci.",
    '{{"note": "{}", "ok": true}}',
    "id;name;value\n17;x;{}\n18;y;none",
    "- contact: {}\n- since: last year",
    "请联系 {} 谢谢",
)
FIRST = ("ann", "bob", "carla", "deniz", "eva", "farid", "gül", "hans", "ines", "jo")
LAST = ("smith", "o'neil", "müller", "garcia-lopez", "nguyen", "li", "kowalski", "rossi")
DOMAINS = (
    "example.com",
    "mail.example.co.uk",
    "firma-beispiel.de",
    "uni.example.edu",
    "ejemplo.es",
    "xn--bcher-kva.ch",
)


def digits(draw: random.Random, count: int) -> str:
    return "".join(draw.choice("0123456789") for _ in range(count))


def luhn(number: str) -> str:
    """The digit that makes the checksum right."""
    doubled = [int(digit) * (2 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(number))]
    return str(-sum(value - 9 if value > 9 else value for value in doubled) % 10)


def card(draw: random.Random) -> str:
    kind, length = draw.choice((("4", 16), ("51", 16), ("54", 16), ("6011", 16), ("37", 15), ("34", 15)))
    begun = kind + digits(draw, length - len(kind) - 1)
    number = begun + luhn(begun)
    between = draw.choice(("", " ", "-"))
    cuts = (0, 4, 10, 15) if length == 15 else (0, 4, 8, 12, 16)
    return between.join(number[start:end] for start, end in pairwise(cuts))


def grouped(number: str, between: str) -> str:
    plain = number.replace(" ", "").replace("-", "")
    return between.join(plain[at : at + 4] for at in range(0, len(plain), 4))


def miscounted_card(draw: random.Random) -> str:
    number = card(draw)
    return number[:-1] + str((int(number[-1]) + draw.randint(1, 9)) % 10)


IBANS = {"DE": 18, "FR": 23, "GB": 18, "ES": 20, "NL": 14, "IT": 23, "AT": 16}


def account(draw: random.Random, country: str) -> str:
    """The country's own part, in its format."""
    if country == "GB":
        return "NWBK" + digits(draw, 14)
    if country == "NL":
        return "ABNA" + digits(draw, 10)
    if country == "IT":
        return draw.choice("ABCDEFXYZ") + digits(draw, 22)
    return digits(draw, IBANS[country])


def iban(draw: random.Random) -> str:
    country = draw.choice(sorted(IBANS))
    own = account(draw, country)
    as_number = int("".join(str(int(sign, 36)) for sign in own + country + "00"))
    number = f"{country}{98 - as_number % 97:02}{own}"
    return number if draw.random() < 0.5 else " ".join(number[at : at + 4] for at in range(0, len(number), 4))


def miscounted_iban(draw: random.Random) -> str:
    number = iban(draw)
    return number[:2] + f"{(int(number[2:4]) + draw.randint(1, 90)) % 97:02}" + number[4:]


def mail(draw: random.Random) -> str:
    name = draw.choice(("{0}.{1}", "{0}{2}", "{0}_{1}+news", "{1}")).format(
        draw.choice(FIRST), draw.choice(LAST), draw.randint(1, 99)
    )
    return f"{name}@{draw.choice(DOMAINS)}"


def phone(draw: random.Random) -> str:
    area, rest = draw.choice(("212", "415", "305", "617")), f"{draw.randint(200, 999)}-{digits(draw, 4)}"
    return draw.choice(
        (
            f"({area}) {rest}",
            f"+1 {area} {rest}",
            f"{area}-{rest}",
            f"+49 30 {draw.randint(2, 9)}{digits(draw, 6)}",
            f"030 {draw.randint(2, 9)}{digits(draw, 6)}",
            f"+33 6 {' '.join(digits(draw, 2) for _ in range(4))}",
            f"020 7946 0{digits(draw, 3)}",
            f"+34 91 {draw.randint(200, 899)} {digits(draw, 2)} {digits(draw, 2)}",
            f"+81 3-3{digits(draw, 3)}-{digits(draw, 4)}",
        )
    )


def ssn(draw: random.Random) -> str:
    between = draw.choice("- ")
    parts = (draw.randint(1, 665), draw.randint(1, 99), draw.randint(1, 9999))
    return between.join((f"{parts[0]:03}", f"{parts[1]:02}", f"{parts[2]:04}"))


Make = Callable[[random.Random], str]
PLAIN: dict[str, Make] = {
    "EMAIL_ADDRESS": mail,
    "CREDIT_CARD": card,
    "IBAN_CODE": iban,
    "PHONE_NUMBER": phone,
    "US_SSN": ssn,
}
DISGUISED: dict[str, tuple[str, Make]] = {
    "an address spelled out": (
        "EMAIL_ADDRESS",
        lambda draw: mail(draw).replace("@", " at ").replace(".", " dot "),
    ),
    "an address in a domain of one's own": (
        "EMAIL_ADDRESS",
        lambda draw: (
            f"{mail(draw).partition('@')[0]}@{draw.choice(('mail.corp.internal', 'localhost', 'nas.lan'))}"
        ),
    ),
    "an address in a URL's escapes": ("EMAIL_ADDRESS", lambda draw: mail(draw).replace("@", "%40")),
    "a card with dots": ("CREDIT_CARD", lambda draw: grouped(card(draw), ".")),
    "an address in a path": ("EMAIL_ADDRESS", lambda draw: f"sales/{mail(draw)}"),
    "a card with slashes": ("CREDIT_CARD", lambda draw: grouped(card(draw), "/")),
    "a card with no-break spaces": ("CREDIT_CARD", lambda draw: grouped(card(draw), "\u00a0")),
    "a card in full-width digits": ("CREDIT_CARD", lambda draw: grouped(card(draw), " ").translate(WIDE)),
    "a card with zero-width spaces": ("CREDIT_CARD", lambda draw: grouped(card(draw), "\u200b")),
    "a card on two lines": ("CREDIT_CARD", lambda draw: grouped(card(draw), "\n")),
    "a card with commas": ("CREDIT_CARD", lambda draw: grouped(card(draw), ",")),
    "a card within Chinese": ("CREDIT_CARD", lambda draw: f"卡号{card(draw)}好"),
    "an address within Chinese": ("EMAIL_ADDRESS", lambda draw: f"写给{mail(draw)}好"),
    "an IBAN in lower case": ("IBAN_CODE", lambda draw: iban(draw).lower()),
    "a number of the Philippines, without its country": (
        "PHONE_NUMBER",
        lambda draw: f"0917 {digits(draw, 3)} {digits(draw, 4)}",
    ),
    "a social security number without gaps": (
        "US_SSN",
        lambda draw: ssn(draw).replace("-", "").replace(" ", ""),
    ),
}
ALIKE: dict[str, Make] = {
    "a card with a wrong checksum": miscounted_card,
    "an IBAN with wrong check digits": miscounted_iban,
    "a time": lambda draw: (
        f"2026-{draw.randint(1, 12):02}-{draw.randint(1, 28):02}T{draw.randint(0, 23):02}:17:05Z"
    ),
    "a date": lambda draw: f"{draw.randint(1, 28):02}.{draw.randint(1, 12):02}.20{draw.randint(10, 29)}",
    "a version": lambda draw: ".".join(str(draw.randint(0, 40)) for _ in range(4)),
    "a decimal": lambda draw: f"{draw.uniform(0, 1000):.6f}",
    "an amount": lambda draw: f"${draw.randint(1, 999)},{digits(draw, 3)},{digits(draw, 3)}.00",
    "seconds since 1970": lambda draw: str(draw.randint(1_600_000_000, 1_800_000_000)),
    "a number of 10 digits": lambda draw: f"{draw.randint(1, 9)}{digits(draw, 9)}",
    "a number of 16 digits": lambda draw: f"{draw.randint(1, 9)}{digits(draw, 15)}",
    "a UUID": lambda draw: "-".join(f"{draw.getrandbits(4 * size):0{size}x}" for size in (8, 4, 4, 4, 12)),
    "a commit": lambda draw: f"{draw.getrandbits(160):040x}",
    "an ISBN": lambda draw: (
        f"978-{draw.randint(0, 9)}-{digits(draw, 3)}-{digits(draw, 5)}-{draw.randint(0, 9)}"
    ),
    "a decorator": lambda draw: f"@{draw.choice(('app.route', 'pytest.mark', 'dataclass'))}",
    "an @-mention": lambda draw: f"@{draw.choice(FIRST)}",
}


class Told(NamedTuple):
    """One sentence: what was found in it, and what was planted at which place."""

    found: Sequence[tuple[str, int, int]]
    start: int
    end: int

    @property
    def hidden(self) -> bool:
        """Whether all of the planted value was found, under whatever name."""
        return any(start <= self.start and end >= self.end for _, start, end in self.found)

    def right(self, name: str) -> int:
        """How much of what was found under a name is of the planted value."""
        return sum(one == name and start < self.end and end > self.start for one, start, end in self.found)


def told(private: Private, make: Make, draw: random.Random) -> Told:
    value, sentence = make(draw), draw.choice(SENTENCES)
    text = sentence.format(value)
    value = value.strip(AROUND).removeprefix("sales/")
    start = text.index(value)
    found = [(one.entity, one.start, one.end) for one in get_detector(private).find(text)]
    return Told(found, start, start + len(value))


def share(count: int, of: int) -> dict[str, Any]:
    """With Wilson's 95 % interval."""
    p, z = count / of, 1.96
    middle, half = p + z * z / (2 * of), z * sqrt(p * (1 - p) / of + z * z / (4 * of * of))
    low, high = (middle - half) / (1 + z * z / of), (middle + half) / (1 + z * z / of)
    return {"count": count, "of": of, "share": [round(x, 4) for x in (p, low, high)]}


def quality() -> dict[str, Any]:
    """Each kind of sentence, under the default section."""
    private, draw = Private(action="redact"), random.Random(SEED)
    plain = {name: [told(private, make, draw) for _ in range(EACH)] for name, make in PLAIN.items()}
    disguised = {
        what: (name, [told(private, make, draw) for _ in range(EACH)])
        for what, (name, make) in DISGUISED.items()
    }
    alike = {what: [told(private, make, draw) for _ in range(EACH)] for what, make in ALIKE.items()}
    private_ones = [*plain.values(), *(tries for _, tries in disguised.values())]
    every = [one for tries in (*private_ones, *alike.values()) for one in tries]
    names = [name for one in every for name, _, _ in one.found]
    right = {name: sum(one.right(name) for tries in private_ones for one in tries) for name in PLAIN}
    return {
        "entities": {
            name: {
                "recall": share(sum(one.hidden for one in plain[name]), EACH),
                "precision": share(right[name], names.count(name)),
            }
            for name in PLAIN
        },
        "disguised": {
            what: share(sum(one.hidden for one in tries), EACH) for what, (_, tries) in disguised.items()
        },
        "alike": {what: share(sum(bool(one.found) for one in tries), EACH) for what, tries in alike.items()},
    }


def texts() -> dict[str, str]:
    """Some 64 KiB each."""
    draw, size = random.Random(SEED), 1 << 16
    root = Path(__file__).parents[1]
    pages = "\n".join(path.read_text(encoding="utf-8") for path in sorted((root / "docs").glob("*.md")))
    code = "\n".join(path.read_text(encoding="utf-8") for path in sorted((root / "gateway").glob("*.py")))
    words = [word for word in pages.split() if word.isalpha()]

    def decimals() -> str:
        return ",".join(f"{draw.uniform(0, 1000):.4f}" for _ in range(8))

    def logged() -> str:
        when, order = f"2026-11-26 20:{draw.randint(10, 59)}:17", draw.randint(10**9, 10**12)
        return f"{when} order={order} from 10.0.{draw.randint(0, 255)}.7"

    return {
        "words": " ".join(draw.choice(words) for _ in range(size // 4))[:size],
        "documentation": pages[:size],
        "code": code[:size],
        "base64": "".join(
            draw.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
            for _ in range(size)
        ),
        "a table of decimals": "\n".join(decimals() for _ in range(size // 64))[:size],
        "a log with times and numbers": "\n".join(logged() for _ in range(size // 64))[: size // 8],
    }


def cost() -> dict[str, Any]:
    """Milliseconds of the processor a KiB, the median of three; also without telephone numbers, which take most."""
    without = tuple(name for name in Private(action="redact").entities if name != "PHONE_NUMBER")
    sections = {
        "default": Private(action="redact"),
        "without_phones": Private(action="redact", entities=without),
    }
    return {
        kind: {name: per_kib(section, text) for name, section in sections.items()}
        for kind, text in texts().items()
    }


def per_kib(private: Private, text: str) -> float | None:
    """None where it takes longer than anybody waits."""
    took = []
    for _ in range(3):
        began = time.process_time()
        try:
            get_detector(private).find(text)
        except ScanTimeout:
            return None
        took.append(time.process_time() - began)
    return round(1000 * median(took) / (len(text.encode()) / 1024), 3)


def long() -> dict[str, Any]:
    """A prompt of 200,000 words, an address at its end; and what a short request takes."""
    section = Private(action="redact")
    prompt = f"{' '.join([texts()['words']] * 20)}"
    prompt = " ".join(prompt.split()[:200_000]) + " ann@example.com"
    short = {"messages": [{"role": "user", "content": "What is the opposite of hot?"}]}
    body = {"messages": [{"role": "user", "content": prompt}]}
    began = time.process_time()
    looked = PrivacyScreen(section).scan_body(body)
    seconds = time.process_time() - began
    assert looked.entities_by_path
    took = []
    for _ in range(200):
        began = time.process_time()
        PrivacyScreen(section).scan_body(short)
        took.append(time.process_time() - began)
    return {
        "words": 200_000,
        "mebibytes": round(len(prompt) / 2**20, 2),
        "seconds": round(seconds, 2),
        "short_us": round(1e6 * median(took), 1),
        "patience_seconds": MAX_SCAN_S,
    }


def loading() -> dict[str, float]:
    """What a policy with such a section costs at the start."""
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    get_detector(Private(action="redact"))
    seconds = time.process_time() - began
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"seconds": round(seconds, 2), "mebibytes": round(more / 1024, 1)}


def main() -> None:
    found = {"seed": SEED, "loading": loading(), "quality": quality(), "ms_per_kib": cost(), "long": long()}
    print(results.write("privacy", found))


if __name__ == "__main__":
    main()
