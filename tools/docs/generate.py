"""Writes what pages say of the code: tables between `<!-- generated:NAME -->` and `<!-- /generated -->`.

`python -m tools.docs.generate` brings the pages of docs/ up to date; a test fails where a committed page is not.
"""

import re
from collections.abc import Callable
from functools import partial

from gateway.local.models.card import ModelCard
from policies.schema.strategies import STRATEGIES
from routers.judges.guard import Guard
from tools.docs.examples import policy, speculate
from tools.docs.markdown import ROOT
from tools.docs.measured import privacy
from tools.docs.measured.compression import prompts_table, quality_table, reading_table
from tools.docs.measured.confidence import confidence_table, formats_table, pair_table, scorer_table
from tools.docs.measured.engines import engines_table, schema_table
from tools.docs.measured.evaluators import evaluators_table
from tools.docs.measured.flywheel import account_table, flywheel_table
from tools.docs.measured.guard import guard_table
from tools.docs.measured.overhead import overhead_table
from tools.docs.measured.relevance import answers_table, judges_table
from tools.docs.measured.speculation import (
    forecast_table,
    inside_table,
    pairs_table,
    ties_table,
    verification_table,
)
from tools.docs.tables.built_in_policies import built_in_table
from tools.docs.tables.engine_fields import constraints_table, fields_table, removed_table
from tools.docs.tables.error_codes import errors_table
from tools.docs.tables.interfaces import auto_policy, commands, kinds_table, metrics_table, providers_table
from tools.docs.tables.llamacpp_options import options_table, refused_table
from tools.docs.tables.model_catalog import catalog_table
from tools.docs.tables.model_fields import (
    fields_tables,
    filter_table,
    policy_tables,
    reasons_table,
    settings_tables,
    split_table,
)
from tools.docs.tables.record_fields import record_tables
from tools.docs.tables.strategies import fields_of, needs_table, requests_table
from tools.docs.tables.tool_parsers import tool_parsers_table

SECTIONS: dict[str, Callable[[], str]] = {
    "settings": settings_tables,
    "kinds": kinds_table,
    "providers": providers_table,
    "commands": commands,
    "errors": errors_table,
    "engine-fields": fields_table,
    "constraints": constraints_table,
    "removed": removed_table,
    "tool-parsers": tool_parsers_table,
    "llamacpp-options": options_table,
    "llamacpp-refused": refused_table,
    "reasons": reasons_table,
    "policies": policy_tables,
    "split": split_table,
    **{kind: partial(fields_of, kind) for kind in STRATEGIES},
    "needs": needs_table,
    "requests": requests_table,
    "built-in": built_in_table,
    "metrics": metrics_table,
    "records": record_tables,
    "auto": auto_policy,
    "extending": policy.extending,
    "asked": policy.asked,
    "explained": policy.explained,
    "confidence": confidence_table,
    "scorer": scorer_table,
    "formats": formats_table,
    "pair": pair_table,
    "overhead": overhead_table,
    "across": partial(speculate.printed, speculate.ACROSS),
    "shorter": partial(speculate.printed, speculate.SHORTER),
    "inside": partial(speculate.printed, speculate.INSIDE),
    "verification": verification_table,
    "forecast": forecast_table,
    "pairs-of-models": pairs_table,
    "ties": ties_table,
    "inside-vllm": inside_table,
    "compression-quality": quality_table,
    "compression-prompts": prompts_table,
    "reading": reading_table,
    "engines": engines_table,
    "schema": schema_table,
    "flywheel-account": account_table,
    "flywheel": flywheel_table,
    "private-section": privacy.section_table,
    "private-entities": privacy.entities_table,
    "private-found": privacy.found_table,
    "private-disguised": privacy.disguised_table,
    "private-alike": privacy.alike_table,
    "private-cost": privacy.cost_table,
    "guard": partial(fields_tables, Guard),
    "guard-measured": guard_table,
    "filter": filter_table,
    "judges": judges_table,
    "filtered-answers": answers_table,
    "evaluators": evaluators_table,
    "catalog-cells": partial(fields_tables, ModelCard),
    "catalog": catalog_table,
}

_SECTION = re.compile(r"(<!-- generated:([\w-]+) -->\n).*?(<!-- /generated -->)", re.DOTALL)


def current(text: str) -> str:
    """A page with its generated sections made anew. Raises KeyError for a section that nothing generates."""
    return _SECTION.sub(lambda found: f"{found[1]}\n{SECTIONS[found[2]]()}\n\n{found[3]}", text)


def main() -> None:
    for page in sorted((ROOT / "docs").rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        page.write_text(current(text), encoding="utf-8")


if __name__ == "__main__":
    main()
