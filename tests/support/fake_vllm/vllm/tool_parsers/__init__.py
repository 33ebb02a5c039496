"""The names of vLLM's parsers of tool calls, where vLLM 0.32 keeps them."""

_TOOL_PARSERS_TO_REGISTER = {
    "hermes": ("hermes_tool_parser", "Hermes2ProToolParser"),
    "pythonic": ("pythonic_tool_parser", "PythonicToolParser"),
}
