"""What a person would still read as private data is found, in whatever disguise, surroundings and place."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.disguises import DISGUISES, NUMBER_PLACES, SURROUNDINGS, TEXT_PLACES, TURN, letters_of
from support.gateways import StartGateway, settings_of, upstream
from support.private_values import EXAMPLES
from support.scripted_server import Scripted
from support.strategy_requests import policy

from gateway.skills.privacy.detection import get_detector
from gateway.skills.privacy.redaction import Vault, redact_text
from policies.schema.private import ENTITIES, Private
from routers.strategies.direct import Direct

pytest.importorskip("presidio_analyzer", reason="smallfirst[privacy] is not installed")

ACTIONS = ("redact", "block", "stay_local")
LETTER_FIRST = {"DE_VAT_ID", "ES_NIE", "MAC_ADDRESS", "SG_NRIC_FIN", "UK_NINO"}


def hidden(entity: str, text: str) -> str:
    return redact_text(text, get_detector(Private(action="redact", entities=(entity,))).find, Vault(), set())


@pytest.mark.parametrize("entity", EXAMPLES)
def test_each_entity_is_found_in_every_disguise_and_in_all_surroundings(entity: str):
    value = EXAMPLES[entity]
    for name, disguise in DISGUISES.items():
        text = f"it is {disguise(value)}, she said"
        assert hidden(entity, text) == f"it is <{entity}_1>, she said", name
    for around in SURROUNDINGS:
        sent = hidden(entity, around.format(value))
        assert f"<{entity}_1>" in sent, around
        assert letters_of(value) not in letters_of(sent), around


@pytest.mark.parametrize("entity", [name for name, value in EXAMPLES.items() if value[0].isdigit()])
def test_letters_may_stand_directly_before_a_number(entity: str):
    if entity in LETTER_FIRST:
        pytest.skip("others of its values begin with a letter")
    assert hidden(entity, f"id{EXAMPLES[entity]}") == f"id<{entity}_1>"


@pytest.mark.parametrize(
    ("entity", "text", "sent"),
    [
        ("EMAIL_ADDRESS", "sales/jane.roe@example.com", "sales/<EMAIL_ADDRESS_1>"),
        ("EMAIL_ADDRESS", "?to=jane.roe@example.com&x=1", "?to=<EMAIL_ADDRESS_1>&x=1"),
        ("EMAIL_ADDRESS", "?to=jane%2Eroe%40example.com&x=1", "?to=<EMAIL_ADDRESS_1>&x=1"),
        ("EMAIL_ADDRESS", "jane.roe@example.com.txt", "<EMAIL_ADDRESS_1>.txt"),
        ("EMAIL_ADDRESS", "jane.roe@example.com_2", "<EMAIL_ADDRESS_1>_2"),
        ("EMAIL_ADDRESS", "jane.roe [at] example [dot] com", "<EMAIL_ADDRESS_1>"),
        ("EMAIL_ADDRESS", "jane.roe(at)example.com", "<EMAIL_ADDRESS_1>"),
        ("EMAIL_ADDRESS", "'ann.o'neil@example.com'", "'<EMAIL_ADDRESS_1>'"),
        ("EMAIL_ADDRESS", "a@b.invalid@example.com", "a@<EMAIL_ADDRESS_1>"),
        ("EMAIL_ADDRESS", "jane@example\u3002com", "<EMAIL_ADDRESS_1>"),
        ("CREDIT_CARD", "1234 4111 1111 1111 1111", "1234 <CREDIT_CARD_1>"),
        ("CREDIT_CARD", "4111 1111 1111 1112 4111 1111 1111 1111", "4111 1111 1111 1112 <CREDIT_CARD_1>"),
        ("CREDIT_CARD", "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", "<CREDIT_CARD_1>"),
        ("CREDIT_CARD", "2223 0031 2200 3222", "<CREDIT_CARD_1>"),
        ("CREDIT_CARD", "3782/822463/10005", "<CREDIT_CARD_1>"),
        ("IBAN_CODE", "AB12 DE89 3704 0044 0532 0130 00", "AB12 <IBAN_CODE_1>"),
        ("IBAN_CODE", "IBANDE89370400440532013000EUR", "IBAN<IBAN_CODE_1>EUR"),
        ("IBAN_CODE", "gb29/nwbk/6016/1331/9268/19", "<IBAN_CODE_1>"),
        ("PHONE_NUMBER", "212/555/1234", "<PHONE_NUMBER_1>"),
    ],
)
def test_values_are_told_from_what_stands_beside_them(entity: str, text: str, sent: str):
    assert hidden(entity, text) == sent


@pytest.mark.parametrize(
    "text",
    [
        "1234.5678 1234.5678 4111.1111 1111.1111",
        "1998/1999 1999/2000 4111/1111 1111/1111",
        "4111, 1111, 1111, 1111",
        "1840.3859994577942, 0.104355500000032, 4111.111111111111",
        "41111111111111111111",
        "7b4111111111111111c, GB86NWBK38848185051099 and 0x4111111111111112",
        "v1.2.3.4, @app.route, @jane, react@18.2.0, jane@localhost, x@y.invalid",
        "a card? 100% (at) last [-] and x\u00b2, 5\u2074",
        "2026/11/26 20:45:17, 26-11-2026, 2026\t11\t26",
    ],
)
def test_what_only_looks_like_private_data_is_left_alone(text: str):
    assert get_detector(Private(action="redact")).find(text) == []


def strings_of(value: Any) -> str:
    """All strings, keys and numbers of what a server got, apart."""
    if isinstance(value, dict):
        return "\n".join(strings_of(one) for pair in value.items() for one in pair)
    if isinstance(value, list):
        return "\n".join(map(strings_of, value))
    if isinstance(value, str):
        return f"{value}\n{bytes(value, 'utf-8').decode('unicode_escape', 'replace')}"
    return f"{value:.0f}" if isinstance(value, float) else str(value)


async def cloud_got(start: StartGateway, slm: Scripted, llm: Scripted) -> Any:
    """A function that asks under each action, and returns the strings that the cloud got."""
    policies = [
        policy(Direct(tier="llm"), private=Private(action=action, entities=tuple(ENTITIES))).replace(  # type: ignore[arg-type]
            name=action
        )
        for action in ACTIONS
    ]
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm", cloud=True)), policies)

    async def ask(action: str, body: dict[str, Any]) -> tuple[int, str]:
        llm.forget()
        status, _, raw = await gateway.post(
            "/chat/completions", {"messages": [TURN]} | body | {"model": action}
        )
        assert status < 500, raw
        return status, "\n".join(strings_of(one) for one in llm.requests)

    return ask


once = settings(
    max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@once
@given(
    st.sampled_from(sorted(EXAMPLES)),
    st.sampled_from(sorted(DISGUISES)),
    st.sampled_from(SURROUNDINGS),
    st.sampled_from(sorted(TEXT_PLACES)),
    st.sampled_from(ACTIONS),
)
async def test_no_cloud_gets_a_disguised_value_from_any_place(
    asking: Any, entity: str, disguise: str, around: str, place: str, action: str
):
    value = DISGUISES[disguise](EXAMPLES[entity])
    if "\u200b" in around and disguise != "plain":
        around = "{}"  # what nobody sees cannot both part a value from letters and be within it
    text = around.format(value)
    status, got = await asking(action, TEXT_PLACES[place](text))
    assert value not in got
    assert letters_of(EXAMPLES[entity]) not in letters_of(got)
    if action != "redact":
        assert got == ""
    if action == "block":
        assert status in (400, 403)


WHOLE = ["4111111111111111", "312345678909", "86095742719", "44051401458"]


@once
@given(
    st.sampled_from(WHOLE),
    st.sampled_from([int, float, lambda digits: -int(digits)]),
    st.sampled_from(sorted(NUMBER_PLACES)),
    st.sampled_from(ACTIONS),
)
async def test_no_cloud_gets_a_private_number_from_any_place(
    asking: Any, digits: str, kind: Any, place: str, action: str
):
    _, got = await asking(action, NUMBER_PLACES[place](kind(digits)))
    assert digits not in got


@pytest.fixture
async def asking(start: StartGateway, slm: Scripted, llm: Scripted) -> Any:
    return await cloud_got(start, slm, llm)
