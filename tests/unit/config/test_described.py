"""The configuration as editors and beginners get it: from the same words as the documents."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from edge.config import described, keys, load_config, resolve

ROOT = Path(__file__).parents[3]


def test_a_new_file_sets_nothing_as_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    file.write_text(described.sample())
    assert set(resolve(file).origins.values()) == {"default"}


def test_a_new_file_with_every_mark_taken_away_says_what_holds_without_it(tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    file.write_text(re.sub(r"^#(?=[\[a-z])", "", described.sample(), flags=re.MULTILINE))
    config = load_config(file)
    paths = {"server.state_dir": "/var/lib/edge", "admin.uds": "/run/edge/admin.sock"}
    assert config == load_config(None, {}, {**paths, "models.NAME.path": "/var/lib/edge/models/NAME"})
    said = resolve(file).origins
    assert {key for key, origin in said.items() if origin == "default"} == set()


def test_a_new_file_says_of_each_value_that_is_not_the_default_that_it_is_an_example() -> None:
    lines = described.sample().splitlines()
    marked = {line.partition(" ")[0] for line in lines if line.endswith("  # an example, not the default")}
    assert marked == {"#state_dir", "#uds", "#path"}
    assert {f"#{name}" for _, name in described.PLACEHOLDERS} == marked


def test_every_key_is_described_in_a_new_file_and_in_the_schema() -> None:
    text, schema = described.sample(), described.schema()
    for section in keys.SECTIONS:
        table: dict[str, Any] = schema["properties"][section]
        table = table["additionalProperties"] if section == "models" else table
        assert table["properties"].keys() == keys.fields(section).keys()
        for name, field in table["properties"].items():
            assert field["description"] == described.described()[section, name][2]
            assert f"\n#{name} = " in text


def test_the_schema_has_what_toml_has_no_null_and_no_references() -> None:
    text = json.dumps(described.schema())
    assert "$ref" not in text
    assert "null" not in text
    http = described.schema()["properties"]["http"]["properties"]
    assert {key: http["port"][key] for key in ("type", "minimum", "maximum", "default")} == {
        "type": "integer", "minimum": 0, "maximum": 65535, "default": 8501,
    }  # fmt: skip
    assert described.schema()["properties"]["models"]["additionalProperties"]["properties"]["swap"]["enum"] == [
        "beside",
        "replace",
    ]


def test_a_wheel_carries_the_words() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    ((source, target),) = build["force-include"].items()
    assert (ROOT / source, ROOT / target) == (described.PLACES[1], described.PLACES[0])
