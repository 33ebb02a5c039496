"""llama.cpp's own parser of options, in the library that xllamacpp comes with. Run as a script in a process of its own.

xllamacpp does not offer the parser, so it is called by its C++ name on the memory of a CommonParams. That is for tests
only: a layout that changes makes a test fail, and no engine.

`--help` prints what `llama-server --help` would. Without arguments, it reads a JSON list of cases from standard input,
each the words of a command line and our parsed values, and prints how each attribute differs from ours.
"""

import ctypes
import json
import sys
from collections.abc import Sequence
from typing import Any

import xllamacpp

from gateway.local.llamacpp.options import BY_NAME, apply_options

SERVER = 12
"""LLAMA_EXAMPLE_SERVER"""
OBJECT_HEADER = 16
"""Bytes of a Python object before its C++ value."""


def parse(params: Any, words: Sequence[str]) -> bool:
    library = ctypes.CDLL(xllamacpp.xllamacpp.__file__)
    parser = library._Z19common_params_parseiPPcR13common_params13llama_examplePFviS0_E
    parser.restype = ctypes.c_bool
    arguments = [b"llama-server", *(word.encode() for word in words)]
    array = (ctypes.c_char_p * (len(arguments) + 1))(*arguments, None)
    address = ctypes.c_void_p(id(params) + OBJECT_HEADER)
    return bool(parser(len(arguments), array, address, SERVER, None))


def read(params: Any, attribute: str) -> Any:
    value = params
    for part in attribute.split("."):
        value = getattr(value, part)
    if attribute == "lora_adapters":
        return [(adapter.path, adapter.scale) for adapter in value]
    if attribute == "speculative.types":
        return [type_ for type_ in value if type_]  # the parser appends to the default, none
    if attribute == "default_template_kwargs":
        return {
            name: text for name, text in value.items() if name != "preserve_reasoning"
        }  # it adds that one
    return value


def compare(words: Sequence[str], values: dict[str, Any]) -> list[str]:
    theirs, ours = xllamacpp.CommonParams(), xllamacpp.CommonParams()
    if not parse(theirs, words):
        return [f"{words}: refused"]
    apply_options(ours, values, xllamacpp)
    attributes = [attribute for name in values for attribute in BY_NAME[name].attributes]
    pairs = [(name, read(theirs, name), read(ours, name)) for name in attributes]
    flags = [params.sampling.user_sampling_config for params in (theirs, ours)]
    return [
        f"{words}: {name} is {their!r}, and {our!r} by ours"
        for name, their, our in (*pairs, ("user_sampling_config", *flags))
        if their != our
    ]


def main() -> None:
    if sys.argv[1:] == ["--help"]:
        parse(xllamacpp.CommonParams(), ["--help"])
        return
    differences = [compare(*case) for case in json.load(sys.stdin)]
    json.dump([line for lines in differences for line in lines], sys.stdout)


if __name__ == "__main__":
    main()
