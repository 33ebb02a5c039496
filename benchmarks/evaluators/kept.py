"""What a judge said, kept in the user's cache folder as it comes: a run that was broken off goes on."""

import hashlib
import json
from typing import Any

from benchmarks.evaluators.labelled import FOLDER, Answered
from policies.loading.rubric_files import load_rubrics
from routers.judges.agreement import ENTAILMENT
from routers.judges.judgements import LABEL_ORDERS, build_question

Row = dict[str, Any]

QUESTIONS = {
    "verify": build_question(*LABEL_ORDERS[0]),
    "agree:entailment": ENTAILMENT,
    "samples": "",
    **{f"rate:{name}": rubric.question for name, rubric in load_rubrics().items()},
}
"""What is asked of each answer, by what is kept; samples are of its request."""


class Kept:
    """One judge's rows of one kind. Another wording of the question, or of the answer, has another row."""

    def __init__(self, judge: str, what: str) -> None:
        self._path = FOLDER / f"{judge}.{what.replace(':', '.')}.jsonl"
        self._question = QUESTIONS[what]
        self._rows: dict[str, Row] = {}
        if self._path.exists():
            rows = map(json.loads, self._path.read_text(encoding="utf-8").splitlines())
            self._rows = {row["key"]: row for row in rows}

    def __contains__(self, answered: Answered) -> bool:
        return self._key(answered) in self._rows

    def __getitem__(self, answered: Answered) -> Row:
        return self._rows[self._key(answered)]

    def add(self, answered: Answered, found: Row) -> None:
        key = self._key(answered)
        row = self._rows[key] = {"key": key, **found}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(row)}\n")

    def _key(self, answered: Answered) -> str:
        asked = (self._question, answered.request, answered.answer, answered.context)
        return hashlib.sha256("\0".join(asked).encode()).hexdigest()
