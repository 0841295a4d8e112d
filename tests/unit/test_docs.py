"""What the documents say of keys and codes is what the code says."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from edge.config import keys
from edge.config.layers import NOT_KEYS
from edge.domain.errors import Code
from edge.domain.model_toml import KEYS
from edge.wire.status import HTTP_STATUS

DOCS = Path(__file__).parents[2] / "docs"


def rows(text: str) -> dict[str, list[str]]:
    """The cells of every table row, by what its first cell names."""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            found[cells[0].strip("`")] = cells[1:]
    return found


def sections() -> dict[str, dict[str, list[str]]]:
    parts = re.split(r"^## \[(\w+)[^\n]*\]$", (DOCS / "configuration.md").read_text(), flags=re.MULTILINE)
    return {name: rows(text.split("\n## ")[0]) for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def test_every_key_is_documented_and_no_other() -> None:
    documented = {(section, key) for section, table in sections().items() for key in table}
    assert documented == {(section, key) for section in keys.SECTIONS for key in keys.fields(section)}


@pytest.mark.parametrize(
    ("section", "key"), [(section, key) for section in keys.SECTIONS for key in keys.fields(section)]
)
def test_the_default_that_is_documented_is_the_one_there_is(section: str, key: str) -> None:
    default = keys.fields(section)[key].default
    said, meaning = sections()[section][key][1:]
    assert meaning
    if default is not msgspec.NODEFAULT:
        value = "" if default is None else msgspec.to_builtins(default, enc_hook=dict)
        assert said == f"`{json.dumps(value)}`"


def test_every_key_of_a_versions_own_file_is_documented_and_no_other() -> None:
    part = (DOCS / "configuration.md").read_text().split("## A version's model.toml")[1].split("\n## ")[0]
    assert rows(part).keys() == KEYS


def test_every_name_of_the_environment_is_documented() -> None:
    assert rows((DOCS / "configuration.md").read_text()).keys() >= NOT_KEYS


def test_every_code_is_documented_with_its_status() -> None:
    documented = {code: cells[0] for code, cells in rows((DOCS / "errors.md").read_text()).items()}
    assert documented == {code.value: str(HTTP_STATUS[code]) for code in Code}
