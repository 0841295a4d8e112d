"""The dashboard, the alerts and the metrics themselves, as Prometheus reads them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.functional.broker import running_broker
from tests.functional.server import serving
from tests.functional.zoo import DIGITS
from tests.waiting import until_blocking

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "deploy" / "prometheus"
DASHBOARD = ROOT / "deploy" / "grafana" / "edge-dashboard.json"
NOT_OF_EVERY_SERVER = {
    "edge_mqtt_connected": {"job", "instance"},
    "edge_mqtt_messages_total": {"job", "instance", "direction"},
    "edge_mqtt_dropped_total": {"job", "instance", "reason"},
    "edge_device_temperature_celsius": {"job", "instance", "zone", "type"},
}
"""Metrics of servers with [mqtt], and of boards with sensors; with their labels."""
OF_PROMETHEUS = {"up": {"job", "instance"}}


def checked(promtool: str, *arguments: str | Path, given: str = "") -> str:
    command = [promtool, *map(str, arguments)]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=False, cwd=ALERTS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def exposition(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What a scrape gets of a server that answered some requests and refused others."""
    path = tmp_path_factory.mktemp("observed")
    with serving(path, "--model", f"digits={DIGITS}", "--set", "models.digits.policy=all") as server:
        instances = np.zeros((4, 8, 8, 1), int).tolist()
        for _ in range(20):
            server.json("/v1/models/digits:predict", {"instances": instances})
        for bad in ({"instances": "x"}, {"instances": [[1]]}):
            assert server.ask("/v1/models/digits:predict", bad)[0] == 400
        assert server.ask("/v1/models/none:predict", {"instances": instances})[0] == 404
        yield server.ask("/metrics")[1].decode()


@pytest.fixture(scope="module")
def given(exposition: str) -> dict[str, set[str]]:
    """The metrics of a scrape with their labels, those of histograms by what is asked of them."""
    found: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(\w+)(?:{(.*?)})? ", exposition, re.MULTILINE):
        found.setdefault(name, {"job", "instance"}).update(re.findall(r'(\w+)="', labels))
    return found | {name: found.get(name, labels) for name, labels in NOT_OF_EVERY_SERVER.items()} | OF_PROMETHEUS


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def expressions() -> list[str]:
    """Of the dashboard, its variables included, and of the alerts."""
    board = json.loads(DASHBOARD.read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    asked += [
        re.sub(r"label_values\((.*), \w+\)", r"\1", each["query"]["query"]) for each in board["templating"]["list"]
    ]
    rules = re.findall(r"expr: (?:\|\n((?: {10,}.*\n)+)|(.*)\n)", (ALERTS / "alerts.yml").read_text())
    return asked + [block or line for block, line in rules]


def test_there_is_an_expression_of_every_panel_and_every_alert() -> None:
    assert len([panel for panel in panels() if panel["type"] != "row"]) > 15
    alerts = re.findall(r"- alert: ", (ALERTS / "alerts.yml").read_text())
    assert len(expressions()) == sum(len(panel.get("targets", ())) for panel in panels()) + 2 + len(alerts)


@pytest.mark.parametrize("expression", expressions())
def test_every_metric_and_label_that_is_asked_for_is_given(expression: str, given: dict[str, set[str]]) -> None:
    names = set(re.findall(r"\b(?:edge|process|python|up)(?:_\w+)?\b(?=[{\[])", expression))
    assert names
    assert names <= given.keys()
    known = {"le"}.union(*(given[name] for name in names))
    asked = set(re.findall(r"(\w+)(?:=~|!=|!~|=)\"", expression))
    asked |= {label.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(",")}
    assert asked <= known


def test_promtool_finds_nothing_to_say_of_the_metrics(promtool: str, exposition: str) -> None:
    assert checked(promtool, "check", "metrics", given=exposition) == ""


def test_the_metrics_of_a_server_with_a_broker_are_those_that_are_asked_for(
    promtool: str, mosquitto: str, tmp_path: Path
) -> None:
    with running_broker(mosquitto, tmp_path / "broker") as broker:
        settings = ("--set", "mqtt.host=127.0.0.1", "--set", f"mqtt.port={broker.port}")
        with serving(tmp_path, "--model", f"digits={DIGITS}", *settings) as server:
            until_blocking(
                lambda: b"\nedge_mqtt_connected 1" in server.ask("/metrics")[1], lambda: server.log.read_text()
            )
            text = server.ask("/metrics")[1].decode()
    assert checked(promtool, "check", "metrics", given=text) == ""
    told = set(re.findall(r"^# TYPE (edge_mqtt_\w+)", text, re.MULTILINE))
    assert told == {name for name in NOT_OF_EVERY_SERVER if name.startswith("edge_mqtt_")}


def test_promtool_takes_the_alerts_and_the_configuration(promtool: str) -> None:
    assert "SUCCESS" in checked(promtool, "check", "rules", "alerts.yml")
    assert "SUCCESS" in checked(promtool, "check", "config", "prometheus.yml")


def test_every_alert_fires_when_it_should_and_not_before(promtool: str) -> None:
    checked(promtool, "test", "rules", "alerts_test.yml")
    alerts = set(re.findall(r"- alert: (\w+)", (ALERTS / "alerts.yml").read_text()))
    cases = re.findall(r"alertname: (\w+)\n\s+exp_alerts:( \[\])?", (ALERTS / "alerts_test.yml").read_text())
    assert {name for name, none in cases if not none} == alerts
    assert {name for name, none in cases if none} == alerts


def test_every_alert_says_where_and_what_to_do() -> None:
    for rule in (ALERTS / "alerts.yml").read_text().split("- alert: ")[1:]:
        assert "$labels.instance" in rule.split("summary:")[1].split("\n")[0]
        assert len(rule.split("action: ")[1].split("\n")[0]) > 20
        assert re.search(r"severity: (critical|warning)", rule)


def test_prometheus_understands_every_expression_of_the_dashboard(promtool: str, tmp_path: Path) -> None:
    rules = tmp_path / "dashboard.yml"
    asked = [re.sub(r"\$\{?__rate_interval}?", "5m", re.sub(r"\$(node|model)", ".*", each)) for each in expressions()]
    lines = [f"      - record: panel:{number}\n        expr: {json.dumps(each)}" for number, each in enumerate(asked)]
    rules.write_text("groups:\n  - name: dashboard\n    rules:\n" + "\n".join(lines) + "\n")
    assert f"{len(asked)} rules found" in checked(promtool, "check", "rules", rules)


def test_the_dashboard_can_be_imported_anywhere() -> None:
    board = json.loads(DASHBOARD.read_text())
    assert [each["name"] for each in board["__inputs"]] == ["DS_PROMETHEUS"]
    assert board["id"] is None
    assert [each["name"] for each in board["templating"]["list"]] == ["node", "model"]
    assert {each["datasource"]["uid"] for each in panels() if "datasource" in each} == {"${DS_PROMETHEUS}"}
    numbers = [each["id"] for each in panels()]
    assert len(set(numbers)) == len(numbers)
    rows = [each["title"] for each in panels() if each["type"] == "row"]
    assert rows == ["Nodes", "Requests", "Versions and swaps", "MQTT", "Devices"]


def test_no_panel_covers_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
