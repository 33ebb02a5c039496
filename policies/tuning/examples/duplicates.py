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

MIN_SIMILARITY = 0.8
"""Jaccard similarity from which on two examples are near duplicates."""

SHINGLE_WORDS = 5
MIN_WORDS = 20
"""Minimum words of an example with near duplicates. In a shorter one, one word changes the question."""


def remove_duplicates(examples: Iterable[Example]) -> tuple[list[Example], int, int]:
    """Return the remaining examples, oldest first, and the numbers of exact and of near duplicates."""
    by_prompt: dict[str, Example] = {}
    count = 0
    for example in sorted(examples, key=lambda one: (one.at, one.id)):
        count += 1
        by_prompt[_prompt_key(example)] = example
    exact = list(by_prompt.values())
    remaining = _remove_near_duplicates(exact)
    return (
        sorted(remaining, key=lambda one: (one.at, one.id)),
        count - len(exact),
        len(exact) - len(remaining),
    )


def normalise(text: str) -> str:
    return " ".join(text.casefold().split())


def _prompt_key(example: Example) -> str:
    texts = [_list_texts(message) for message in example.prompt]
    return json.dumps([texts, example.tools], sort_keys=True)


def _list_texts(message: Message) -> list[str]:
    """Return the role and the normalised texts of a message, without call ids, which are unique."""
    calls = [call["function"] for call in message.get("tool_calls", ())]
    called = [f"{call['name']} {normalise(call['arguments'])}" for call in calls]
    return [message["role"], normalise(message.get("content", "")), *called]


def _remove_near_duplicates(examples: Sequence[Example]) -> list[Example]:
    """Return the examples, newest first, without those that are similar to a newer one that stays."""
    shingle_sets = [_shingles(example) for example in examples]
    common = Counter(gram for shingles in shingle_sets for gram in shingles)
    places_by_shingle: dict[str, list[int]] = defaultdict(list)
    remaining = []
    newest = sorted(range(len(examples)), key=lambda place: (examples[place].at, examples[place].id))
    for place in reversed(newest):
        shingles = shingle_sets[place]
        rarest = sorted(shingles, key=lambda gram: (common[gram], gram))
        rarest = rarest[: len(shingles) - _min_shared(len(shingles)) + 1] if shingles else []
        others = {other for gram in rarest for other in places_by_shingle[gram]}
        if any(_is_similar(shingles, shingle_sets[other]) for other in others):
            continue
        for gram in rarest:
            places_by_shingle[gram].append(place)
        remaining.append(examples[place])
    return remaining


def _min_shared(count: int) -> int:
    """Return how many members a set of `count` at least shares with any set that is similar to it."""
    return math.ceil(MIN_SIMILARITY * count - 1e-9)


def _is_similar(a: frozenset[str], b: frozenset[str]) -> bool:
    return len(a & b) >= MIN_SIMILARITY * len(a | b) - 1e-9


def _shingles(example: Example) -> frozenset[str]:
    """Return the word 5-grams of the last turn and the answer, or none below `MIN_WORDS` words."""
    prompt = example.prompt
    last = max((at for at, message in enumerate(prompt) if message["role"] == "assistant"), default=-1)
    new = [message for message in example.messages[last + 1 :] if message["role"] != "system"]
    words = " ".join(part for message in new for part in _list_texts(message)[1:]).split()
    if len(words) < MIN_WORDS:
        return frozenset()
    return frozenset(" ".join(words[at : at + SHINGLE_WORDS]) for at in range(len(words) - SHINGLE_WORDS + 1))
