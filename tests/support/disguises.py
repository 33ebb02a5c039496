"""Private data in every disguise that the privacy page promises to see through, and in every place of a request."""

import json
import re
import unicodedata
from collections.abc import Callable
from typing import Any

Disguise = Callable[[str], str]


def separated_by(separator: str) -> Disguise:
    return lambda value: re.sub(r"[ -]", lambda _: separator, value)


def widen(value: str) -> str:
    """In full-width signs."""
    return "".join(chr(ord(sign) + 0xFEE0) if "!" <= sign <= "~" else sign for sign in value)


def in_digits_from(zero: str) -> Disguise:
    return lambda value: "".join(chr(ord(zero) + int(sign)) if sign.isdigit() else sign for sign in value)


def through(sign: str) -> Disguise:
    """With a sign that nobody sees between all others."""
    return lambda value: sign.join(value)


DISGUISES: dict[str, Disguise] = {
    "plain": str,
    "full width": widen,
    "Arabic digits": in_digits_from("\u0660"),
    "Devanagari digits": in_digits_from("\u0966"),
    "bold digits": in_digits_from("\U0001d7ce"),
    "zero-width spaces": through("\u200b"),
    "soft hyphens": through("\u00ad"),
    "word joiners": through("\u2060"),
    "marks of direction": through("\u200e"),
    "no-break spaces": separated_by("\u00a0"),
    "thin spaces": separated_by("\u2009"),
    "two spaces": separated_by("  "),
    "en dashes": separated_by("\u2013"),
    "no-break hyphens": separated_by("\u2011"),
    "minus signs": separated_by("\u2212"),
    "spaced dashes": separated_by(" - "),
    "slashes": separated_by("/"),
    "tabs": separated_by("\t"),
    "dots": separated_by("."),
    "underscores": separated_by("_"),
    "middle dots": separated_by("\u00b7"),
    "a pattern": re.escape,
    "a pattern's options": separated_by("[ -]?"),
    "a pattern's spaces": separated_by(r"\s?"),
    "JSON's escapes": lambda value: "".join(f"\\u{ord(sign):04x}" for sign in value),
    "HTML's escapes": lambda value: "".join(f"&#{ord(sign)};" for sign in value),
    "a URL's escapes": lambda value: "".join(f"%{ord(sign):02X}" for sign in value),
    "a URL's escapes twice": lambda value: "".join(f"%25{ord(sign):02X}" for sign in value),
}
SURROUNDINGS = (
    "it is {}, she said",
    "{}",
    "sales/{}",
    "/home/{}/inbox",
    "https://example.org/find?by={}&page=2",
    "arn:aws:ses:eu-west-1:123456789012:identity/{}",
    "tel:{};x=1",
    "name={};",
    '"{}"',
    "[{}]",
    "a\t{}\tb",
    "user_{}_old",
    "1234 {} 5678",
    "17 {} 99",
    "{}.json",
    "\u5361\u53f7{}\u597d",
    "a\u200b{}\u200bb",
)


def letters_of(text: str) -> str:
    """What a text says, without what parts it or is not seen."""
    folded = "".join(
        str(unicodedata.digit(sign)) if sign.isdigit() else unicodedata.normalize("NFKC", sign)
        for sign in text
    )
    return "".join(sign for sign in folded if sign.isalnum() or sign == "@").casefold()


PARAMETERS: Callable[[Any], dict[str, Any]] = lambda field: {  # noqa: E731
    "tools": [
        {
            "type": "function",
            "function": {"name": "f", "parameters": {"type": "object", "properties": {"x": field}}},
        }
    ]
}
TURN = {"role": "user", "content": "Hello."}


def call_of(arguments: Any) -> dict[str, Any]:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": json.dumps(arguments)}}
    turns = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "Done."},
    ]
    return {"messages": [TURN, *turns]}


TEXT_PLACES: dict[str, Callable[[str], dict[str, Any]]] = {
    "a turn": lambda text: {"messages": [{"role": "user", "content": text}]},
    "a part": lambda text: {"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]},
    "the system's turn": lambda text: {"messages": [{"role": "system", "content": text}, TURN]},
    "an answer of before": lambda text: {"messages": [TURN, {"role": "assistant", "content": text}, TURN]},
    "a name": lambda text: {"messages": [TURN | {"name": text}]},
    "a call's argument": lambda text: call_of({"to": text}),
    "a key of a call's arguments": lambda text: call_of({text: 1}),
    "JSON in a turn": lambda text: {"messages": [TURN | {"content": json.dumps({"a": [{"b": text}]})}]},
    "a tool's description": lambda text: PARAMETERS({"type": "string", "description": text}),
    "a schema's pattern": lambda text: PARAMETERS({"type": "string", "pattern": f"^{text}$"}),
    "a schema's values": lambda text: PARAMETERS({"type": "string", "enum": [text, "none"]}),
    "a schema's default": lambda text: PARAMETERS({"type": "string", "default": text}),
    "a schema's key": lambda text: PARAMETERS({"type": "object", "properties": {text: {"type": "string"}}}),
    "the user": lambda text: {"user": text},
    "metadata": lambda text: {"metadata": {"of": text}},
    "a key of metadata": lambda text: {"metadata": {text: "x"}},
    "a field of its own": lambda text: {"own": text},
    "a key with a number": lambda text: {text: 5},
    "a key with a flag": lambda text: {text: True},
    "a key with null": lambda text: {text: None},
    "a key within": lambda text: {"own": {"of": [{text: 5.5}]}},
    "a stop": lambda text: {"stop": [text]},
    "a prediction": lambda text: {"prediction": {"type": "content", "content": text}},
}
NUMBER_PLACES: dict[str, Callable[[float], dict[str, Any]]] = {
    "a number": lambda number: {"own": number},
    "a number within": lambda number: {"own": {"of": [number]}},
    "a schema's constant": lambda number: PARAMETERS({"const": number}),
    "a call's number": lambda number: call_of({"to": number}),
    "the seed": lambda number: {"seed": number},
}
