"""The section of a policy file that turns compression on."""

from pathlib import Path

import pytest

from policies.loading.loader import load_policy
from policies.loading.yaml_files import ConfigError

HEAD = "description: d\nrouter: {kind: direct, tier: llm}\n"


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ("{}", "expected one of target_ratio and target_tokens"),
        ("{target_ratio: 0.5, target_tokens: 9}", "expected one of target_ratio and target_tokens"),
        ("{target_ratio: 1.0}", "compress.target_ratio"),
        ("{target_tokens: 0}", "compress.target_tokens"),
        ("{target_ratio: 0.5, keep: ['']}", "compress.keep.0"),
        ("{target_ratio: 0.5, worth: never}", "compress.worth"),
        ("{ratio: 0.5}", "compress.ratio"),
    ],
)
def test_an_error_names_the_file_and_what_was_expected(tmp_path: Path, section: str, says: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(f"{HEAD}compress: {section}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_policy(path)
    assert "p.yaml:3" in str(error.value)
    assert says in str(error.value)
