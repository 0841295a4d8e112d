"""What the documents say of keys and codes is what the code says."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from edge.config import keys
from edge.config.layers import NOT_KEYS
from edge.domain.errors import Code
from edge.domain.lifecycle import State
from edge.domain.model_toml import KEYS
from edge.domain.models import ModelId
from edge.domain.ports import ModelStatus, VersionStatus
from edge.telemetry.exposition import Exposition
from edge.telemetry.metrics import Metrics, MqttCounts
from edge.wire.status import GRPC_STATUS, HTTP_STATUS
from sync import config as agent
from sync.domain.errors import Reason
from sync.domain.rollout import ModelRollout, Probation, Rollout
from sync.fleet.keys import ROLES

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


def test_every_metric_is_documented_with_its_labels_and_no_other(tmp_path: Path) -> None:
    zone = tmp_path / "thermal_zone0"
    zone.mkdir()
    (zone / "type").write_text("cpu")
    (zone / "temp").write_text("40000")
    metrics = Metrics(tfserving=True)
    metrics.version("m", 1).answered("v1", 0.1, 0.0, 0.1)
    metrics.version("m", 1).ran(8)
    metrics.version("m", 1).looked_up(hit=True)
    metrics.swapped(1.0, True)
    metrics.mqtt = MqttCounts()
    metrics.routing("m").routed("stable", 1)
    metrics.routing("m").shadowed(2, "same", 0.1)
    metrics.watch(lambda: [ModelStatus("m", [VersionStatus(ModelId("m", 1), State.READY)], {})])
    _, text = Exposition(metrics, tmp_path).render("")
    given = families(text.decode()) | families(metrics.render_tfserving().decode())
    documented = {
        name: {label.strip("` ") for label in cells[1].split(",") if label.strip()}
        for name, cells in rows((DOCS / "metrics.md").read_text()).items()
    }
    assert documented == {
        name: labels for name, labels in given.items() if not name.startswith(("process_", "python_"))
    }


def families(text: str) -> dict[str, set[str]]:
    """The labels of each metric in Prometheus' text format; the bounds of a histogram's buckets are none."""
    found: dict[str, set[str]] = {}
    for name in re.findall(r"^# TYPE (\S+)", text, re.MULTILINE):
        samples = re.findall(rf"^{name}(?:_bucket|_sum|_count)?{{(.*)}}", text, re.MULTILINE)
        found[name] = {label for sample in samples for label in re.findall(r'(\w+)="', sample)} - {"le"}
    return found


def test_every_code_is_documented_with_its_status() -> None:
    documented = {code: cells[:2] for code, cells in rows((DOCS / "errors.md").read_text()).items()}
    assert documented == {code.value: [str(HTTP_STATUS[code]), f"`{GRPC_STATUS[code]}`"] for code in Code}


def fleet(heading: str) -> dict[str, list[str]]:
    """The rows of one section of the guide for fleets, up to the next heading of its kind."""
    text = (DOCS / "fleet.md").read_text()
    level = heading.split(" ")[0]
    return rows(text.split(f"\n{heading}\n")[1].split(f"\n{level} ")[0].split("\n## ")[0])


AGENT_KEYS = {
    (section.name, key.name): key.default
    for section in msgspec.structs.fields(agent.Config)
    for key in msgspec.structs.fields(section.type)
}
OF_THE_HOST = {("device", "id")}


def test_every_key_of_the_agent_is_documented_and_no_other() -> None:
    text = (DOCS / "fleet.md").read_text()
    sections = re.findall(r"^### \[(\w+)\]$", text, flags=re.MULTILINE)
    assert {(section, key) for section in sections for key in fleet(f"### [{section}]")} == AGENT_KEYS.keys()


@pytest.mark.parametrize(("section", "key"), sorted(AGENT_KEYS.keys() - OF_THE_HOST))
def test_the_default_of_the_agent_that_is_documented_is_the_one_there_is(section: str, key: str) -> None:
    kind, said, meaning = fleet(f"### [{section}]")[key]
    assert kind
    assert meaning
    assert said == f"`{json.dumps(AGENT_KEYS[section, key])}`"


def test_every_reason_and_outcome_of_a_report_is_documented_and_no_other() -> None:
    documented = fleet("## Status and reports").keys()
    reasons = {each.value for each in Reason}
    assert documented >= reasons
    assert documented - reasons == {"committed", "committed_idle", "failed", "rolled_back"}


def test_every_role_is_documented_as_it_signs() -> None:
    said = {name: cells[:4] for name, cells in fleet("## Keys").items()}
    assert said == {
        name: [role.place, str(role.keys), str(role.threshold), f"{role.expiry.days} d"] for name, role in ROLES.items()
    }


def test_how_a_version_is_judged_is_documented_with_its_defaults() -> None:
    said = {name: cells[0] for name, cells in fleet("## Roll out").items() if name.startswith("--")}
    document, judged, model = Rollout("", "", 0, {}), Probation(), ModelRollout()
    assert said == {
        "--spread": f"{document.spread_s:g} s",
        "--probation": f"{judged.seconds:g} s",
        "--min-requests": str(judged.min_requests),
        "--max-error-rate": str(judged.max_error_rate),
        "--max-p99-ratio": str(judged.max_p99_ratio),
        "--swap": model.swap,
    }


def test_every_row_of_a_table_stands_in_one() -> None:
    for path in sorted((*DOCS.rglob("*.md"), DOCS.parent / "README.md")):
        before = ""
        lines = path.read_text().splitlines()
        for line, after in zip(lines, [*lines[1:], ""], strict=True):
            begins = line.startswith("|") and not before.startswith("|")
            assert not begins or after.startswith("|--"), f"{path.name}: {line}"
            before = line
