"""What compression leaves alone because a word less would change what is said: negations, quantifiers, tables, code."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.surprisal_reader import Reader, prose

from gateway.skills.compress.compression import Goal, compress
from gateway.skills.compress.logical_words import is_logical
from gateway.skills.compress.messages import parse_segments, replace_texts

CODE = {
    "Python": '''import os
from pathlib import Path

@dataclass
class Keeper(Person):
    """Keeps the lighthouse, and never the birds that live beside it on the rock."""

    def feed(self, birds: list[str]) -> None:
        # every bird gets the same
        for bird in birds:
            if not bird.fed:
                print(f"feeding {bird}")
            else:
                continue
        return self.count + 1

keeper = Keeper(birds=7)
keeper.feed(["peacock"])''',
    "JavaScript": """const birds = await load("birds.json");
function feed(bird) {
  if (!bird.fed) {
    return give(bird, 2);
  } else {
    throw new Error("fed already");
  }
}
export default feed;""",
    "Java": """package no.brevik.light;

public class Keeper extends Person {
    private final int birds = 7;

    // feeds all birds that are not yet fed by anybody else
    public void feed(List<Bird> birds) {
        birds.forEach(bird -> bird.feed());
    }
}""",
    "C": """#include <stdio.h>
int main(void) {
    for (int i = 0; i < 7; i++)
        printf("%d\\n", i);
    return 0;
}""",
    "SQL": """SELECT name, count(*) AS birds
FROM keepers
WHERE birds > 3 AND name != 'Lie'
GROUP BY name;""",
    "shell": """$ pip install smallfirst
$ export KEY=abc
git commit -m "Feed the birds"
curl -s http://localhost:8080/v1/models | jq .""",
    "HTML": """<div class="birds">
  <p>Seven</p>
</div>""",
    "YAML": """apiVersion: v1
metadata: {name: light}
spec:
  replicas: 2
  image: "light:1\"""",
    "a stack trace": """Traceback (most recent call last):
  File "feed.py", line 3, in feed
    give(bird)
ValueError: the bird is fed""",
    "a diff": """- keeper.feed(3);
+ keeper.feed(7);""",
}
TABLES = {
    "Markdown": "| bird | fed |\n|------|----:|\n| hen  | yes |\n| duck | no |",
    "no edges": "bird | fed\n--- | ---\nhen | yes\nduck | no",
    "a grid": "+------+-----+\n| bird | fed |\n+======+=====+\n| hen  | yes |\n+------+-----+",
    "tabs": "bird\tfed\tcount\nhen\tyes\tseven\nduck\tno\tthree",
    "commas": "bird,fed,colour\nhen,yes,grey\nduck,no,white\ncrow,no,black",
    "semicolons": "bird;fed;colour\nhen;yes;grey\nduck;no;white",
    "columns": "bird    fed   colour\nhen     yes   grey\nduck    no    white\ncrow    no    black",
    "rules": "bird  fed\n----- ----\nhen   yes\nduck  no",
    "rows that lack cells": "| bird | fed | colour |\n|---|---|---|\n| hen | yes |\n| duck | no | white |",
    "two columns": "bird,colour\nhen,grey\nduck,white\ncrow,black",
    "quoted commas": 'bird,fed,colour\n"hen, old",yes,grey\nduck,no,"white, or grey"',
    "HTML": "<table>\n<tr><th>bird</th><th>fed</th></tr>\n<tr><td>hen and duck</td><td>yes</td></tr>\n</table>",
}


async def compressed(text: str, ratio: float = 0.4, *, drop: bool = False) -> str:
    body = {"text": text}
    found = await compress(parse_segments(body), Goal(ratio=ratio, drop=drop), Reader())
    return str(replace_texts(body, found.texts)["text"])


@pytest.mark.parametrize("kind", CODE)
async def test_code_without_fences_is_left_alone(kind: str):
    before, after = prose(140), prose(140, 3)
    out = await compressed(f"{before}\n\n{CODE[kind]}\n\n{after}")
    assert CODE[kind] in out
    assert len(out) < 0.8 * len(f"{before}{CODE[kind]}{after}")


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("drop", [False, True])
async def test_tables_stay_whole(kind: str, drop: bool):
    out = await compressed(f"{prose(140)}\n\n{TABLES[kind]}\n\n{prose(140, 3)}", drop=drop)
    assert TABLES[kind] in out


@pytest.mark.parametrize(
    "text",
    [
        "Import taxes rose, and the merchants of the town, who had seen it coming, left for the south.",
        "class struggles were, for the most part, a thing of which nobody spoke at the harbour;",
        "if you go there in the winter, take a coat with you: it is cold, and the wind is strong.",
        "The keeper, the king, and the birds; all of them knew it.\nThe queen, the cook, and the cat did too.",
        "return to the harbour when the bell rings for the third time in the night",
        "- the first boat, which is red;\n- the second boat, which is grey;\n- the third, which is white.",
        "the hen,\nthe duck,\nthe crow,",
        "(A) the hen\n(B) the duck\n(C) the crow",
        "Alice: good morning\nBob: and to you",
    ],
)
def test_prose_is_no_code_and_no_table(text: str):
    (segment,) = parse_segments({"text": text}).segments
    assert segment.protected == []


NEGATED = [
    "The builders haven't yet created the new wall.",
    "Nobody but the keeper was allowed on the rock.",
    "The king can\u2019t ever see all of the birds at once.",
    "Not every boat that leaves the harbour comes back.",
    "There are no more than seven peacocks, except in spring.",
    "Only some of the sailors had neither bread nor water.",
    "Der Wärter hat die Vögel nicht alle gezählt, und keiner half.",
    "Le gardien n'a jamais vu aucun des oiseaux sans leur roi.",
    "El guardián nunca vio ningún pájaro ni a nadie más.",
]


@given(
    st.lists(st.sampled_from(NEGATED), min_size=1, max_size=8),
    st.integers(0, 50),
    st.floats(0.05, 0.9),
)
async def test_negations_and_quantifiers_never_go(sentences: list[str], seed: int, ratio: float):
    text = f"{prose(70, seed)} {' '.join(sentences)}\n\n{prose(210, seed + 1)}"
    out = await compressed(text, ratio)
    assert [word for word in out.split() if is_logical(word)] == [
        word for word in text.split() if is_logical(word)
    ]


async def test_what_is_negated_stays_with_its_negation():
    text = f"{prose(140)} The builders haven't yet created the wall. {prose(140, 2)}"
    out = await compressed(text, 0.1)
    assert "haven't yet created" in out
    dropped = await compressed(
        f"{prose(140)}\n\nIt was not so. {prose(60)}\n\n{prose(140, 2)}", 0.3, drop=True
    )
    assert re.search(r"\bnot\b", dropped) is None or "not so" in dropped
