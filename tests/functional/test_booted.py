"""The units, booted: Debian's own systemd starts, watches, restarts and confines the server and the agent.

Everything is installed and asked as docs/raspberry-pi.md says. The tests share one machine, and each leaves it as it was.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from sync.domain.rollout import Probation
from tests import tflite_models
from tests.data import shared_data
from tests.functional import booted
from tests.functional.booted import ROOT, SOURCE, WHEELS, Machine
from tests.functional.device import MODEL, Operator
from tests.waiting import until_blocking

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STORE, MODELS = "/srv/store", "/var/lib/edge/models"
URL = ":8501"
PREDICT = f"{URL}/v1/models/{MODEL}:predict"
ONE = '{"instances": [1.0]}'
DROP_IN = "/run/systemd/system/edge.service.d/test.conf"


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Operator:
    path = tmp_path_factory.mktemp("operator")
    path.chmod(0o755)  # the agent is not root
    return Operator(path)


@pytest.fixture(scope="module")
def machine(
    systemd_nspawn: str, debootstrap: str, operator: Operator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    """Booted, with both services installed; version 1 of the model has come by the agent."""
    if os.geteuid() != 0:
        pytest.skip("not root: nothing was booted")
    if sys.version_info[:2] != (3, 11):
        pytest.skip("not Python 3.11, as Debian 12 has it: its wheels cannot be had, and nothing was booted")
    place = tmp_path_factory.mktemp("machine")
    subprocess.run(["cp", "-a", str(booted.base(debootstrap)), str(place / "root")], check=True)
    shared = {ROOT: SOURCE, booted.wheels(): WHEELS, operator.path: STORE}
    with Machine(systemd_nspawn, place / "root", place / "boot.log", shared) as made:
        made.run(f"{SOURCE}/systemd/install", within_s=300)
        operator.publish(1)
        operator.roll_out(1, Probation(seconds=1.0, min_requests=0))
        made.write("/etc/edge/edge-sync.toml", _agent())
        made.run("cp", f"{STORE}/root.json", "/etc/edge/root.json")
        made.run("systemctl", "restart", "edge-sync")
        until(made, lambda: made.ask(PREDICT, ONE).status == 200)
        yield made


def _agent() -> str:
    return (
        f'[store]\nurl = "{STORE}/store"\n[device]\nid = "dev-1"\ngroup = "default"\n'
        "[poll]\nevery_s = 0.5\nmax_s = 1\n[update]\nstagger_s = 0\n"
    )


def until(machine: Machine, condition: Callable[[], object], within_s: float = 60.0) -> None:
    until_blocking(condition, lambda: machine.journal("edge") + machine.journal("edge-sync"), within_s=within_s)


def main_pid(machine: Machine, unit: str = "edge") -> str:
    return machine.show(unit, "MainPID")


# -- users and files


def test_server_and_agent_run_as_two_users_of_whom_one_owns_the_models(machine: Machine) -> None:
    users = machine.sh(
        f"stat -c %U:%G /proc/{main_pid(machine)} /proc/{main_pid(machine, 'edge-sync')}"
        f" {MODELS} {MODELS}/{MODEL}/1/model.tflite /run/edge/admin.sock /var/lib/edge/server /var/lib/edge/sync"
    )
    assert users.split("\n") == [
        *("edge:edge", "edge-sync:edge", "edge-sync:edge", "edge-sync:edge", "edge:edge", "edge:edge", "edge-sync:edge")
    ]
    assert machine.sh(f"stat -c '%a %h' {MODELS}/{MODEL}/1/model.tflite") == "640 2", "a link to the agent's blob"


def test_neither_can_write_what_is_the_others(machine: Machine) -> None:
    for unit, path in (("edge", f"{MODELS}/{MODEL}/planted"), ("edge-sync", "/var/lib/edge/server/planted")):
        done = machine.run(
            *("nsenter", "-t", main_pid(machine, unit), "-m", "setpriv", f"--reuid={unit}", "--regid=edge"),
            *("--clear-groups", "touch", path),
            check=False,
        )
        assert re.search("Read-only file system|Permission denied", done.stderr), done
    assert "planted" not in machine.sh(f"ls {MODELS}/{MODEL} /var/lib/edge/server")


def test_the_agent_brings_a_version_and_hears_of_it_by_the_admin_socket(machine: Machine, operator: Operator) -> None:
    operator.publish(2)
    operator.roll_out(2, Probation(seconds=1.0, min_requests=0))
    until(machine, lambda: machine.ask(PREDICT, ONE).json()["predictions"] == [2.0])
    until(machine, lambda: machine.show("edge-sync", "StatusText") == f"{MODEL} 2")
    assert machine.show("edge", "StatusText") == "1 model ready"
    said = machine.sh("edge-sync agent doctor --config /etc/edge/edge-sync.toml --json", check=False)
    wrong = [each for each in json.loads(said)["checks"] if each["level"] == "fail"]
    assert wrong == []


# -- sockets


def test_the_first_request_starts_the_server(machine: Machine) -> None:
    machine.run("systemctl", "stop", "edge.service")
    assert machine.sh("systemctl is-active edge.service; systemctl is-active edge.socket", check=False) == (
        "inactive\nactive"
    )
    assert machine.ask(PREDICT, ONE).status == 200
    assert machine.sh("systemctl is-active edge.service") == "active"


def test_restarts_under_load_cost_no_answer(machine: Machine) -> None:
    command = machine.entering("python3", f"{SOURCE}/tests/functional/crowd.py", "8501", PREDICT.removeprefix(URL), ONE)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as crowd:
        for _ in range(3):
            machine.run("systemctl", "restart", "edge.service")
            until(machine, lambda: machine.show("edge", "StatusText") == "1 model ready")
        outcomes = json.loads(booted.ended(crowd))
    print("restarts under load:", outcomes)
    assert outcomes.keys() == {"200"}
    assert outcomes["200"] > 100


def test_a_second_server_has_its_own_socket_state_and_admin_socket(machine: Machine) -> None:
    machine.write("/etc/edge/cam1.toml", f'[repository]\npath = "{MODELS}"\n')
    machine.run("systemctl", "enable", "--now", "edge@cam1.socket")
    try:
        asked = machine.ask(f"/v1/models/{MODEL}:predict", ONE, uds="/run/edge-cam1.sock")
        assert asked.status == 200
        assert machine.sh("stat -c '%U:%G %a' /run/edge-cam1.sock") == "edge:edge 660"
        assert (
            machine.ask("/v1/status", uds="/run/edge-cam1/admin.sock").json()["boot_id"]
            != (machine.ask("/v1/status", uds="/run/edge/admin.sock").json()["boot_id"])
        )
        assert machine.sh("ls -d /var/lib/edge/server-cam1")
        assert main_pid(machine, "edge@cam1") != main_pid(machine)
    finally:
        machine.run("systemctl", "disable", "--now", "edge@cam1.socket", "edge@cam1.service")


# -- what systemd is told


def test_a_reload_is_over_when_the_configuration_has_been_read(machine: Machine) -> None:
    before = main_pid(machine)
    machine.run("systemctl", "reload", "edge.service")
    until(machine, lambda: "reloaded" in machine.journal("edge") and machine.show("edge", "SubState") == "running")
    assert main_pid(machine) == before


@pytest.fixture
def impatient(machine: Machine) -> Iterator[Callable[[str], None]]:
    """Restarts the server with more of a [Service]; as it was afterwards."""

    def restart(service: str) -> None:
        machine.write(DROP_IN, f"[Service]\n{service}\n")
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "restart", "edge.service")
        until(machine, lambda: machine.ask(PREDICT, ONE).status == 200)

    yield restart
    machine.run("rm", "-f", DROP_IN)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "edge.service")
    until(machine, lambda: machine.ask(PREDICT, ONE).status == 200)


def watchdog_came(machine: Machine, before: str) -> None:
    until(machine, lambda: main_pid(machine) not in (before, "0") and machine.show("edge", "NRestarts") == "1")
    assert "Watchdog timeout" in machine.journal("edge")
    assert machine.ask(PREDICT, ONE).status == 200


def test_a_server_that_stands_still_is_ended_and_started_again(
    machine: Machine, impatient: Callable[[str], None]
) -> None:
    impatient("WatchdogSec=3")
    before = main_pid(machine)
    machine.sh(f"kill -STOP {before}")
    watchdog_came(machine, before)


def test_a_server_of_which_a_run_hangs_is_ended_and_started_again(
    machine: Machine, impatient: Callable[[str], None]
) -> None:
    loop = machine.root / "var/lib/loop.tflite"
    loop.write_bytes(tflite_models.looping(0.0))
    impatient(
        "WatchdogSec=3\nEnvironment=EDGE_MODELS__LOOP__PATH=/var/lib/loop.tflite EDGE_MODELS__LOOP__MAX_RUN_S=1"
        " EDGE_MODELS__LOOP__INSTANCES=1"
    )
    before = main_pid(machine)
    assert machine.ask(f"{URL}/v1/models/loop:predict", '{"inputs": [-1e9]}').status >= 500
    watchdog_came(machine, before)
    said = machine.sh("journalctl -q --no-pager -u edge")
    assert "systemd's watchdog hears no more of this process" in said
    assert "the last process crashed: Fatal Python error: Aborted" in said, "where each thread was"


# -- what they may do


def test_what_the_units_forbid_is_forbidden(machine: Machine) -> None:
    for unit in ("edge", "edge-sync"):
        status = machine.sh(f"cat /proc/{main_pid(machine, unit)}/status")
        found = dict(line.split(":\t", 1) for line in status.split("\n") if ":\t" in line)
        assert (found["NoNewPrivs"], found["Seccomp"], int(found["CapBnd"], 16)) == ("1", "2", 0), unit
        said = machine.sh(f"systemd-analyze security --no-pager {unit}.service | tail -n 1")
        print(said)
        assert float(re.findall(r": ([0-9.]+)", said)[0]) <= 2.0


def test_a_confined_server_computes_as_fast_as_any(machine: Machine) -> None:
    """Where /proc/cpuinfo is hidden, this takes the better part of a second."""
    model = shared_data("mobilenet_v2_1.0_224_quant.tflite")
    given = machine.root / "var/lib/given/1"
    given.mkdir(parents=True)
    (given / "model.tflite").write_bytes(model.read_bytes())
    machine.run("install", "-d", "-o", "edge-sync", "-g", "edge", "-m", "0750", f"{MODELS}/mobilenet")
    machine.run("cp", "-r", "/var/lib/given/1", f"{MODELS}/mobilenet/.1")
    machine.run("chown", "-R", "edge-sync:edge", f"{MODELS}/mobilenet/.1")
    machine.run("mv", f"{MODELS}/mobilenet/.1", f"{MODELS}/mobilenet/1")
    path = f"{URL}/v2/models/mobilenet/versions/1"
    try:
        until(machine, lambda: machine.ask(f"{path}/ready").status == 200)
        inputs = machine.ask(path).json()["inputs"][0]
        body = json.dumps({"inputs": [{**inputs, "shape": [1, 224, 224, 3], "data": [0] * 224 * 224 * 3}]})
        request = machine.root / "var/lib/request.json"
        request.write_text(body)
        took_s = min(run_s(machine, "/var/lib/request.json", f"{path}/infer") for _ in range(5))
        print(f"mobilenet: {took_s * 1e3:.1f} ms a request")
        assert took_s < 0.25
        assert "cpuinfo" not in machine.sh("journalctl -q --no-pager -u edge")
    finally:
        machine.run("rm", "-rf", f"{MODELS}/mobilenet")


def run_s(machine: Machine, body: str, target: str) -> float:
    script = f"import sys; sys.argv = ['', '', {target!r}, __import__('json').dumps(open({body!r}).read()), '{{}}']\n"
    said = json.loads(machine.run("python3", "-c", script + booted._ASK).stdout)
    assert said["status"] == 200, said["text"][:300]
    return float(said["took_s"])


def test_a_token_comes_as_a_credential(machine: Machine, impatient: Callable[[str], None]) -> None:
    machine.write("/etc/credstore/edge-tokens", "secret\n")
    machine.run("chmod", "0600", "/etc/credstore/edge-tokens")
    try:
        machine.write(
            DROP_IN, "[Service]\nEnvironment=EDGE_HTTP__TOKEN_FILE=/run/credentials/edge.service/edge-tokens\n"
        )
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "restart", "edge.service")
        assert machine.ask(PREDICT, ONE).status == 401
        token = {"Authorization": "Bearer secret"}
        until(machine, lambda: machine.ask(PREDICT, ONE, headers=token).status == 200)
        assert machine.sh("stat -c %U:%a /run/credentials/edge.service/edge-tokens") == "edge:400"
    finally:
        machine.run("rm", "/etc/credstore/edge-tokens")
        impatient("")


# -- installing again, and away


def test_to_install_again_changes_nothing_that_a_person_wrote_and_to_uninstall_leaves_it(machine: Machine) -> None:
    kept = machine.sh("cat /etc/edge/edge-sync.toml")
    machine.run(f"{SOURCE}/systemd/install", within_s=300)
    assert machine.sh("cat /etc/edge/edge-sync.toml") == kept
    until(machine, lambda: machine.ask(PREDICT, ONE).status == 200)
    machine.run(f"{SOURCE}/systemd/install", "--uninstall")
    left = machine.sh("ls -d /opt/edge /usr/local/bin/edge; systemctl list-unit-files --no-legend 'edge*'", check=False)
    assert left == ""
    assert machine.sh(f"cat /etc/edge/edge-sync.toml && ls {MODELS}") == f"{kept}\n{MODEL}"
    machine.run(f"{SOURCE}/systemd/install", within_s=300)
    until(machine, lambda: machine.ask(PREDICT, ONE).status == 200)
