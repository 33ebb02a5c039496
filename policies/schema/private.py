"""The `private` section of a policy: which data is private, and what happens to a request that holds some."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator

ENTITIES: Mapping[str, str] = MappingProxyType(
    {
        "EMAIL_ADDRESS": "an e-mail address in a domain under a public suffix",
        "CREDIT_CARD": "a card's number (checksum)",
        "IBAN_CODE": "an international bank account number (checksum, the country's format)",
        "PHONE_NUMBER": "a telephone number, international or of US, GB, DE, FR, IL, IN, CA or BR (numbering plans); "
        "ten digits in a row, unless the first is 0, only beside a word such as `phone`: they may be a time or an id",
        "US_SSN": "a US social security number, its parts apart",
        "IP_ADDRESS": "an IPv4 or IPv6 address",
        "MAC_ADDRESS": "a network card's address",
        "CRYPTO": "a Bitcoin address (checksum)",
        "ABA_ROUTING_NUMBER": "a US bank's routing number (checksum)",
        "AU_ABN": "an Australian business number (checksum)",
        "AU_MEDICARE": "an Australian Medicare number (checksum)",
        "AU_TFN": "an Australian tax file number (checksum)",
        "DE_TAX_ID": "a German tax identification number (checksum)",
        "DE_VAT_ID": "a German VAT number",
        "ES_NIE": "a Spanish foreigner's number (checksum)",
        "ES_NIF": "a Spanish tax number (checksum)",
        "FI_PERSONAL_IDENTITY_CODE": "a Finnish personal identity code (checksum)",
        "IN_AADHAAR": "an Indian Aadhaar number (checksum)",
        "IT_FISCAL_CODE": "an Italian fiscal code (checksum)",
        "KR_RRN": "a Korean resident registration number (checksum)",
        "PL_PESEL": "a Polish PESEL number (checksum)",
        "SE_PERSONNUMMER": "a Swedish personal number (checksum)",
        "SG_NRIC_FIN": "a Singaporean identity number",
        "UK_NHS": "a British NHS number (checksum)",
        "UK_NINO": "a British national insurance number",
        "US_ITIN": "a US taxpayer's number, its parts apart",
    }
)
"""Entities of presidio-analyzer that a pattern alone recognises well enough, without context words. `URL` and
`IN_PAN` are left out: their patterns take seconds to minutes on some texts of a few thousand characters."""

DEFAULT_ENTITIES = ("EMAIL_ADDRESS", "CREDIT_CARD", "IBAN_CODE", "PHONE_NUMBER", "US_SSN")
MAX_PATTERN_LENGTH = 500
PATTERN_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,31}")
RESERVED_NAME = "PLACEHOLDER"
"""Entity name in placeholders for text of the request that already looks like a placeholder."""

Action = Literal["stay_local", "redact", "block"]


class Private(BaseModel):
    """Looks for private data in each request. Needs `smallfirst[privacy]`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    action: Action
    """What happens to a request that holds private data. `stay_local`: no cloud sees any of the request;
    `redact`: clouds get placeholders, and the originals are put back into the answer; `block`: the request is
    refused."""
    entities: tuple[str, ...] = DEFAULT_ENTITIES
    """Entities to look for, by presidio-analyzer's names."""
    patterns: dict[str, str] = {}
    """Your own regular expressions, by the entity name that placeholders show for a match."""
    score: Annotated[float, Field(gt=0, le=1)] = 0.4
    """Minimum recogniser score of a find: 1 if a checksum is right, less for a mere resemblance."""
    attachments: Literal["private", "pass"] = "private"
    """How images, audio and files count, since they cannot be searched. `private`: no cloud sees a request
    with one."""

    @field_validator("entities")
    @classmethod
    def _check_entities(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in ENTITIES:
                raise ValueError(f"expected some of {', '.join(ENTITIES)}, found {name!r}")
        return tuple(dict.fromkeys(names))

    @field_validator("patterns")
    @classmethod
    def _check_patterns(cls, patterns: dict[str, str]) -> dict[str, str]:
        for name, pattern in patterns.items():
            if not PATTERN_NAME.fullmatch(name) or name in (*ENTITIES, RESERVED_NAME):
                what = f"names of up to 32 capital letters, digits and _, no entity's and not {RESERVED_NAME}"
                raise ValueError(f"expected {what}, found {name!r}")
            check_pattern(name, pattern)
        return patterns

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    def __str__(self) -> str:
        """Return what the section does, for people."""
        what = ", ".join([*self.entities, *self.patterns])
        return {
            "stay_local": f"requests with {what} stay at home",
            "redact": f"{what} are redacted for clouds",
            "block": f"requests with {what} are refused",
        }[self.action]


def _find_tag(value: object) -> str:
    return "section" if isinstance(value, dict | Private) else "flag"


PrivateSetting = Annotated[
    Annotated[bool, Tag("flag")] | Annotated[Private, Tag("section")], Discriminator(_find_tag)
]
"""true or false, or a section that says what to look for."""


def check_pattern(name: str, pattern: str) -> None:
    """Raise ValueError unless `pattern` is a usable regular expression that does not match the empty text."""
    if not 0 < len(pattern) <= MAX_PATTERN_LENGTH:
        raise ValueError(f"{name}: expected 1 to {MAX_PATTERN_LENGTH} characters, found {len(pattern)}")
    try:
        empty_match = re.compile(pattern).search("")
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{name}: expected a regular expression: {error}") from error
    if empty_match:
        raise ValueError(f"{name}: expected a pattern that finds something, and it finds nothing at all")
