"""Reads the quantisations that a repository offers from the names of its GGUF files, and chooses one."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from gateway.local.models.gguf import split_name
from policies.loading.yaml_files import ConfigError

DEFAULT_QUANTISATION = "Q4_K_M"
"""What most tools fetch if none is named: little is lost, at a third of the size of 16 bits."""

_QUANTISATION = re.compile(
    r"(?:^|(?<=[-._/ ]))(?:UD-)?(?:I?Q[1-9](?:_[0-9A-Z]+)*|TQ[12]_0|MXFP4(?:_MOE)?|NVFP4|BF16|FP?16|FP?32)"
    r"(?=$|[-._/ ])",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(r"(?:^|[-._/])(?:mmproj|imatrix)(?:[-._]|$)", re.IGNORECASE)
"""Files beside the weights: a vision encoder, statistics for quantising."""


class GgufWeights(NamedTuple):
    """A model in one quantisation: a file, or the parts of a split one in their order."""

    quantisation: str
    """In upper case. The file's stem if its name tells none."""
    files: tuple[str, ...]
    parts: int = 1

    @property
    def is_complete(self) -> bool:
        return len(self.files) == self.parts


def list_weights(names: Iterable[str]) -> list[GgufWeights]:
    """Return the weights among a repository's files, sorted by name."""
    groups: dict[tuple[str, int], list[str]] = defaultdict(list)
    for name in sorted(names):
        if name.lower().endswith(".gguf") and not _NO_MODEL.search(PurePosixPath(name).name):
            groups[split_name(name)].append(name)
    return [
        GgufWeights(read_quantisation(stem), tuple(files), parts) for (stem, parts), files in groups.items()
    ]


def read_quantisation(stem: str) -> str:
    """Return the last quantisation that the name of a file or of its folder tells, else the file's name itself."""
    matches = _QUANTISATION.findall(stem)
    return matches[-1].upper() if matches else PurePosixPath(stem).name


def choose_weights(names: Iterable[str], wanted: str | None, where: str) -> GgufWeights:
    """Return the weights of a quantisation, by default of Q4_K_M or of the only one. Raises ConfigError with the list
    of what is there; `where` names the repository."""
    weights = list_weights(names)
    chosen = find_weights(weights, wanted)
    if len(chosen) != 1:
        raise ConfigError(_explain_choice(weights, chosen, wanted or DEFAULT_QUANTISATION, where))
    if not chosen[0].is_complete:
        raise ConfigError(
            f"{where}: {chosen[0].files[0]} is one of {chosen[0].parts} parts, and"
            f" {len(chosen[0].files)} of them are there; all are needed"
        )
    return chosen[0]


def find_weights(weights: Sequence[GgufWeights], wanted: str | None) -> list[GgufWeights]:
    """Return those of a quantisation, which may be given without the prefix `UD-` that some publishers use, or as a
    file's name; without one, those of Q4_K_M or else the only ones."""
    name = (wanted or DEFAULT_QUANTISATION).upper().removesuffix(".GGUF")
    for names in (_exact_names, _other_names):
        if chosen := [each for each in weights if name in names(each)]:
            return chosen
    return [*weights] if wanted is None and len(weights) == 1 else []


def _exact_names(weights: GgufWeights) -> set[str]:
    return {weights.quantisation.upper()}


def _other_names(weights: GgufWeights) -> set[str]:
    stem, _ = split_name(weights.files[0])
    return {weights.quantisation.removeprefix("UD-"), PurePosixPath(stem).name.upper()}


def _explain_choice(
    weights: Sequence[GgufWeights], chosen: Sequence[GgufWeights], wanted: str, where: str
) -> str:
    if not weights:
        return f"{where} holds no GGUF file"
    if chosen:
        files = ", ".join(each.files[0] for each in chosen)
        stem = PurePosixPath(split_name(chosen[0].files[0])[0]).name
        return (
            f"{where} holds several files of quantisation {wanted}: {files}; name one, as in {where}:{stem}"
        )
    there = ", ".join(dict.fromkeys(each.quantisation for each in weights))
    return (
        f"{where} has no quantisation {wanted}; there are: {there}; name one, as in"
        f" {where}:{weights[0].quantisation}"
    )
