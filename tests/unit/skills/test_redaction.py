"""Placeholders in texts and bodies, and the originals back in their places, however an answer is cut."""

import json
import re
import sys
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.skills.privacy.body_scan import BodyScan
from gateway.skills.privacy.detection import Finding
from gateway.skills.privacy.redaction import PlaceholderRestorer, Vault, redact_text
from gateway.wire.parsing.nesting import read_json
from policies.schema.private import Private

MAIL = "bob@example.com"


def find(text: str) -> Sequence[Finding]:
    """Stands for the library: addresses, and numbers of nine digits or more."""
    rules = {"EMAIL_ADDRESS": r"[^\W\d_][\w.+-]*@[\w-]+(?:\.[\w-]+)+", "CREDIT_CARD": r"\b\d{9,}\b"}
    found = [
        Finding(name, *one.span(), one[0]) for name, rule in rules.items() for one in re.finditer(rule, text)
    ]
    return sorted(found, key=lambda one: one.start)


def hidden(text: str, vault: Vault | None = None) -> str:
    return redact_text(text, find, vault or Vault(), set())


def restored(text: str, vault: Vault, *, quoted: bool = False) -> str:
    restoring = PlaceholderRestorer(vault.originals, quoted=quoted)
    return restoring.feed(text) + restoring.flush()


WORDS = [
    MAIL,
    "al@x.org",
    "<EMAIL_ADDRESS_1>",
    "<EMAIL_ADDRESS_",
    "1>",
    "<",
    ">",
    "411111111111",
    " ",
    "a",
    "é\n",
    "\\u0040",
    "\\",
    '"',
    "\\u003cEMAIL_ADDRESS_1\\u003e",
    "<EMAIL_ADDRESS_1\\u003E",
]


@settings(max_examples=50)
@given(st.lists(st.sampled_from(WORDS), max_size=12).map("".join), st.integers(1, 9), st.booleans())
def test_what_an_answer_repeats_of_a_text_comes_back_as_it_was_wherever_it_is_cut(
    text: str, size: int, quoted: bool
):
    vault = Vault()
    sent = hidden(text, vault)
    assert MAIL not in sent
    if quoted:
        sent = json.dumps({"a": sent})
    restoring = PlaceholderRestorer(vault.originals, quoted=quoted)
    pieces = [restoring.feed(sent[at : at + size]) for at in range(0, len(sent), size)]
    got = "".join(pieces) + restoring.flush()
    assert not restoring.has_pending_text
    meant = json.loads(got)["a"] if quoted else got
    assert meant == text or "\\u0040" in text  # an address with an escape comes back without
    assert meant.count("u003") == text.count("u003")


@settings(max_examples=50)
@given(st.text("<>EMAIL_ADRS12 \\u003ce", max_size=60), st.integers(1, 7), st.booleans())
def test_where_a_text_is_cut_makes_no_difference(text: str, size: int, quoted: bool):
    vault = Vault()
    hidden(f"{MAIL} al@x.org", vault)
    restoring = PlaceholderRestorer(vault.originals, quoted=quoted)
    pieces = [restoring.feed(text[at : at + size]) for at in range(0, len(text), size)]
    assert "".join(pieces) + restoring.flush() == restored(text, vault, quoted=quoted)


JUNK = '<>"\\ \n\0\x1bé世🙂@.1aB_{[u'


@settings(max_examples=50)
@given(st.text(JUNK, max_size=80), st.text(JUNK, max_size=20))
def test_whatever_a_text_is_made_of_it_comes_back(before: str, after: str):
    vault = Vault()
    text = f"{before} {MAIL} {after}"
    sent = hidden(text, vault)
    assert MAIL not in sent
    assert restored(sent, vault) == text


def test_equal_values_have_one_placeholder_and_what_is_no_placeholder_to_the_letter_stays():
    vault = Vault()
    assert (
        hidden(f"{MAIL}, al@x.org, {MAIL}", vault)
        == "<EMAIL_ADDRESS_1>, <EMAIL_ADDRESS_2>, <EMAIL_ADDRESS_1>"
    )
    said = "EMAIL_ADDRESS_1 <email_address_1> <EMAIL_ADDRESS_3> <EMAIL_ADDRESS_1"
    assert restored(f"{said} <EMAIL_ADDRESS_2>", vault) == f"{said} al@x.org"


def test_a_text_that_looks_like_a_placeholder_is_hidden_itself_and_so_not_confused_with_ours():
    vault = Vault()
    text = f"<EMAIL_ADDRESS_1> is not {MAIL}"
    sent = hidden(text, vault)
    assert sent == "<PLACEHOLDER_1> is not <EMAIL_ADDRESS_1>"
    assert restored(sent, vault) == text


def test_what_stands_in_json_is_found_through_its_escapes_and_stays_json():
    vault = Vault()
    given = {"to": "x\nmüller@example.de", "card": 4111111111111111, "note": "4111111111111111"}
    sent = hidden(json.dumps(given), vault)
    assert json.loads(sent) == {
        "to": "x\n<EMAIL_ADDRESS_1>",
        "card": "<CREDIT_CARD_1>",
        "note": "<CREDIT_CARD_1>",
    }
    assert json.loads(restored(sent, vault, quoted=True)) == given | {"card": "4111111111111111"}
    assert hidden(json.dumps({"inner": json.dumps(given)}), vault).count("<EMAIL_ADDRESS_1>") == 1
    assert hidden('say "bob\\u0040example.com" twice') == 'say "<EMAIL_ADDRESS_1>" twice'


def test_a_placeholder_of_the_texts_own_comes_back_as_it_was_escaped():
    for text in ("\\u003cEMAIL_ADDRESS_1\\u003e", "<EMAIL_ADDRESS_1\\u003e", f"\\u003CWORD_7> of {MAIL}"):
        vault = Vault()
        sent = hidden(text, vault)
        assert restored(sent, vault) == text
        assert json.loads(restored(json.dumps({"a": sent}), vault, quoted=True)) == {"a": text}
    vault = Vault()
    meant = {"a": "<EMAIL_ADDRESS_1>"}
    sent = hidden('{"a": "\\u003cEMAIL_ADDRESS_1\\u003e"}', vault)
    assert json.loads(restored(sent, vault, quoted=True)) == meant


def test_a_number_in_json_is_hidden_whole():
    vault = Vault()
    text = '{"card": 4111111111111111.0, "of": [-4111111111111112, 5.5e3]}'
    sent = hidden(text, vault)
    assert json.loads(sent) == {"card": "<CREDIT_CARD_1>", "of": ["<CREDIT_CARD_2>", 5500.0]}
    assert json.loads(restored(sent, vault, quoted=True))["card"] == "4111111111111111.0"


def test_an_original_with_quotes_is_escaped_in_a_tool_calls_arguments():
    vault = Vault()
    vault.get_placeholder("WORD", 'a "b"\n')
    for said in ('{"w": "<WORD_1>!"}', '{"w": "\\u003cWORD_1\\u003e!"}'):
        assert json.loads(restored(said, vault, quoted=True)) == {"w": 'a "b"\n!'}


def looked(body: dict[str, object], **private: object) -> BodyScan:
    vault = Vault()

    def hide(text: str) -> tuple[str, frozenset[str]]:
        told: set[str] = set()
        return redact_text(text, find, vault, told), frozenset(told)

    return BodyScan(Private(**({"action": "redact"} | private)), body, hide)


def test_an_integer_of_more_than_64_bits_is_looked_at():
    scan = looked(read_json(b'{"metadata": {"id": -411111111111111111111111}}'), action="stay_local")
    assert scan.must_stay_local


def test_all_strings_and_keys_of_a_body_are_looked_through_and_nothing_else_is_touched():
    body = {
        "model": "large",
        "seed": 12345678,
        "temperature": 0.5,
        "messages": [
            {"role": "user", "name": MAIL, "content": [{"type": "text", "text": f"I am {MAIL}"}]},
            {
                "role": "assistant",
                "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": f'{{"a":"{MAIL}"}}'}}],
            },
        ],
        "metadata": {MAIL: "1", "deep": [[{"er": MAIL}]]},
        "user": MAIL,
        MAIL: "x",
        "prediction": {"type": "content", "content": MAIL},
        "logit_bias": {"50256": -100},
    }
    found = looked(body)
    assert found.unscannable == []
    assert MAIL not in json.dumps(found.body)
    assert found.body["messages"][0]["name"] == "EMAIL_ADDRESS_1"  # where servers refuse brackets
    same = ("model", "seed", "temperature", "logit_bias")
    assert {key: found.body[key] for key in same} == {key: body[key] for key in same}
    assert "messages[0].content[0].text holds EMAIL_ADDRESS" in found.describe()
    assert MAIL not in found.describe()


def test_of_the_gateways_own_field_only_passages_count_and_nothing_is_recorded():
    own = {"key": MAIL, "tags": {MAIL: "x"}}
    found = looked({"smallfirst": own}, action="block")
    assert (found.must_stay_local, found.entities_by_path) == (False, {})
    assert MAIL not in json.dumps(found.body)
    assert looked({"smallfirst": own | {"context": [{"text": MAIL}]}}, action="block").must_stay_local


@pytest.mark.parametrize(
    ("field", "where"),
    [
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": ["a", [1, 2]]}, "prompt"),
        ({"prompt_embeds": "AAAA"}, "prompt_embeds"),
        ({"tools": [{"const": 4111111111111111}]}, "tools[0].const"),
        ({"tools": [{"const": 4111111111111111.0}]}, "tools[0].const"),
        ({"seed": 4111111111111111}, "seed"),
        ({"own": -4111111111111111}, "own"),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
            "messages[0].content[0]",
        ),
    ],
)
def test_what_nobody_can_look_into_keeps_a_body_from_clouds(field: dict[str, object], where: str):
    found = looked(field)
    assert found.must_stay_local
    assert f"{where} can't be looked into" in found.describe()


def test_attachments_may_pass_with_their_data_as_it_is():
    url = "data:image/png;base64,123456789012"
    part = {"type": "image_url", "image_url": {"url": url, "detail": MAIL}}
    found = looked({"messages": [{"role": "user", "content": [part]}]}, attachments="pass")
    assert not found.must_stay_local
    assert found.body["messages"][0]["content"][0]["image_url"] == {"url": url, "detail": "<EMAIL_ADDRESS_1>"}


def test_of_an_attachment_that_may_pass_only_its_data_passes_unseen():
    part = {"type": "file", "metadata": MAIL, "file": {"file_data": "AAAA", "filename": MAIL}}
    found = looked({"messages": [{"role": "user", "content": [part]}]}, attachments="pass")
    assert MAIL not in json.dumps(found.body)
    assert found.body["messages"][0]["content"][0]["file"]["file_data"] == "AAAA"


def test_a_key_is_looked_through_whatever_its_value():
    for value in (5, 5.5, True, None):
        assert looked({MAIL: value}).body == {"<EMAIL_ADDRESS_1>": value}


def test_a_body_nested_deeper_than_can_be_followed_is_private():
    deep: list[object] = []
    for _ in range(sys.getrecursionlimit()):
        deep = [deep]
    assert looked({"metadata": deep}).must_stay_local
