"""Removes duplicate examples; the newest of each group of duplicates stays.

Exact duplicates have the same prompt and tools, apart from letter case and white space, whatever the answer.
Near duplicates have a Jaccard similarity of at least `MIN_SIMILARITY` between the word 5-grams of what is new
in them, the last turn and the answer (as in Lee et al., arXiv 2107.06499). All such pairs are found, without
hashing: two sets that are this similar share one of their rarest few members (prefix filtering; Bayardo, Ma,
Srikant, WWW 2007).
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from .sft_examples import Example, Message

ALIKE = 0.8
"""Jaccard similarity from which on two examples are near duplicates."""

WORDS = 5
SHORT = 20
"""Minimum words of an example with near duplicates. In a shorter one, one word changes the question."""


def distinct(examples: Iterable[Example]) -> tuple[list[Example], int, int]:
    """Return the remaining examples, oldest first, and the numbers of exact and of near duplicates."""
    by_prompt: dict[str, Example] = {}
    count = 0
    for example in sorted(examples, key=lambda one: (one.at, one.id)):
        count += 1
        by_prompt[_prompt_key(example)] = example
    exact = list(by_prompt.values())
    kept = _without_near(exact)
    return sorted(kept, key=lambda one: (one.at, one.id)), count - len(exact), len(exact) - len(kept)


def normalised(text: str) -> str:
    return " ".join(text.casefold().split())


def _prompt_key(example: Example) -> str:
    said = [_said(message) for message in example.prompt]
    return json.dumps([said, example.tools], sort_keys=True)


def _said(message: Message) -> list[str]:
    """Return the role and the normalised texts of a message, without call ids, which are unique."""
    calls = [call["function"] for call in message.get("tool_calls", ())]
    called = [f"{call['name']} {normalised(call['arguments'])}" for call in calls]
    return [message["role"], normalised(message.get("content", "")), *called]


def _without_near(examples: Sequence[Example]) -> list[Example]:
    """Return the examples, newest first, without those that are similar to a newer one that stays."""
    grams = [_grams(example) for example in examples]
    common = Counter(gram for some in grams for gram in some)
    holding: dict[str, list[int]] = defaultdict(list)
    kept = []
    newest = sorted(range(len(examples)), key=lambda place: (examples[place].at, examples[place].id))
    for place in reversed(newest):
        some = grams[place]
        rarest = sorted(some, key=lambda gram: (common[gram], gram))
        rarest = rarest[: len(some) - _shared(len(some)) + 1] if some else []
        others = {other for gram in rarest for other in holding[gram]}
        if any(_alike(some, grams[other]) for other in others):
            continue
        for gram in rarest:
            holding[gram].append(place)
        kept.append(examples[place])
    return kept


def _shared(count: int) -> int:
    """Return how many members a set of `count` at least shares with any set that is similar to it."""
    return math.ceil(ALIKE * count - 1e-9)


def _alike(one: frozenset[str], other: frozenset[str]) -> bool:
    return len(one & other) >= ALIKE * len(one | other) - 1e-9


def _grams(example: Example) -> frozenset[str]:
    """Return the word 5-grams of the last turn and the answer, or none below `MIN_WORDS` words."""
    prompt = example.prompt
    last = max((at for at, message in enumerate(prompt) if message["role"] == "assistant"), default=-1)
    new = [message for message in example.messages[last + 1 :] if message["role"] != "system"]
    words = " ".join(part for message in new for part in _said(message)[1:]).split()
    if len(words) < SHORT:
        return frozenset()
    return frozenset(" ".join(words[at : at + WORDS]) for at in range(len(words) - WORDS + 1))
