"""A rubric, by which a judge rates an answer on a scale from 1 to n, where n is the best."""

import re
from typing import Annotated

from pydantic import Field, field_validator

from routers.config_models import Finite

PLACEHOLDERS = ("request", "answer", "context")
"""The placeholders that a rubric's text may contain, in braces."""

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class Rubric(Finite):
    """A judge's question and its scale."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
    """The name by which policies and requests refer to the rubric."""
    text: Annotated[str, Field(min_length=1)]
    """The judge's question, with `{request}`, `{answer}` and `{context}` as placeholders. An instruction to
    reply with one number is appended."""
    scale: Annotated[int, Field(ge=2, le=9)] = 5
    """The highest and best score; the lowest is 1. Each score must be one token."""

    @field_validator("text")
    @classmethod
    def _check_placeholders(cls, text: str) -> str:
        for field in _PLACEHOLDER.findall(text):
            if field not in PLACEHOLDERS:
                known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
                raise ValueError(f"expected only the fields {known}, found {{{field}}}")
        if "{answer}" not in text:
            raise ValueError("expected {answer} in it, where the answer that is rated goes")
        return text

    @property
    def question(self) -> str:
        return f"{self.text}\n\nReply with one number from 1 to {self.scale}."

    @property
    def scores(self) -> tuple[str, ...]:
        """The scores as labels of a `Judge`."""
        return tuple(str(score) for score in range(1, self.scale + 1))

    @property
    def needs_context(self) -> bool:
        return "{context}" in self.text
