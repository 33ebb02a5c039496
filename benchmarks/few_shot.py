"""Few-shot prompts with questions held out, from the data sets in `SMALLFIRST_DATA`.

GSM8K with chains of thought, and tasks of BIG-Bench-Hard with bare answers. Each question is read after the shots, as a
text that goes on.
"""

import ast
import gzip
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

SEED = 20261126
SHOTS = {"gsm8k": 8, "bbh": 16}
THINK = "Let's think step by step"
TASKS = ("object_counting", "sports_understanding", "navigate")
"""Of BIG-Bench-Hard: short questions whose answers are a few tokens."""
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


class Question(NamedTuple):
    text: str
    answer: str


class Set(NamedTuple):
    """A task: its shots, what stands between them and a question, and how an answer is read."""

    name: str
    shots: tuple[str, ...]
    questions: tuple[Question, ...]
    most: int
    """Tokens of an answer."""
    stop: tuple[str, ...]
    read: Callable[[str], str]

    @property
    def prefix(self) -> str:
        return "\n\n".join(self.shots)


def folder() -> Path:
    return Path(os.environ.get("SMALLFIRST_DATA") or Path(__file__).parents[2] / "shared" / "data")


def sets(where: Path) -> Iterator[Set]:
    yield gsm8k(where)
    yield from (bbh(where, task) for task in TASKS)


def gsm8k(where: Path) -> Set:
    """Two shots as LLMLingua's own tests have them, the rest of the training set in their manner."""
    random = Random(SEED)
    theirs = _theirs(where).split("\n\n")
    given = random.sample(_lines(where / "gsm8k_train_part.jsonl.gz"), SHOTS["gsm8k"] - len(theirs))
    shots = [*theirs, *(_shown(one) for one in given)]
    asked = random.sample(_lines(where / "gsm8k_test.jsonl.gz"), 100)
    questions = (
        Question(f"Question: {one['question']}\n{THINK}\n", _plain(one["answer"].rpartition("####")[2]))
        for one in asked
    )
    return Set("gsm8k", tuple(shots), tuple(questions), 200, ("Question:",), _number)


def _shown(one: dict[str, Any]) -> str:
    steps, _, answer = re.sub(r"<<[^>]*>>", "", one["answer"]).rpartition("\n#### ")
    return f"Question: {one['question']}\n{THINK}\n{steps}\nThe answer is {answer.strip()}"


def _theirs(where: Path) -> str:
    with tarfile.open(where / "llmlingua_tests.tar.gz") as archive:
        member = archive.extractfile("tests/test_llmlingua.py")
        assert member is not None
        tree = ast.parse(member.read())
    found = {
        node.targets[0].id: node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    return str(found["GSM8K_PROMPT"]).strip()


def bbh(where: Path, task: str) -> Set:
    with tarfile.open(where / "bbh_tasks.tar.gz") as archive:
        member = archive.extractfile(f"bbh/{task}.json")
        assert member is not None
        examples = json.load(member)["examples"]
    Random(SEED).shuffle(examples)
    shots = tuple(f"Q: {one['input']}\nA: {one['target']}" for one in examples[: SHOTS["bbh"]])
    questions = tuple(Question(f"Q: {one['input']}\nA:", one["target"]) for one in examples[SHOTS["bbh"] :])
    return Set(task, shots, questions, 6, ("\n", "Q:"), str.strip)


def _lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _number(text: str) -> str:
    """What is said to be the answer, else the last number there is."""
    _, said, after = text.partition("The answer is")
    found = NUMBER.findall(after if said else text)
    return _plain(found[0 if said else -1]) if found else ""


def _plain(number: str) -> str:
    return number.replace(",", "").strip().removesuffix(".00").removesuffix(".0")
