"""The server as systemd runs it, without systemd: sockets that it inherits, and what it tells."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.functional.crowd import Crowd
from tests.functional.kept import Keeper
from tests.functional.raw import Wire, ask, request
from tests.functional.server import configuration
from tests.functional.zoo import DIGITS, FOR_EVER, HALF, HALVED, LOOP, half, looping
from tests.waiting import until_blocking

PREDICT = "/v1/models/half:predict"
DIGIT = json.dumps({"instances": [[[[0]] * 8] * 8]}).encode()


def tcp(host: str = "127.0.0.1") -> socket.socket:
    return socket.create_server((host, 0), backlog=1024)


def unix(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    made.listen(64)
    return made


def port(keeper: Keeper) -> int:
    number: int = keeper.sockets["http"].getsockname()[1]
    return number


# -- sockets


def test_a_restart_under_load_costs_no_answer(tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(DIGITS / "1", models / "digits" / "1")
    with Keeper(tmp_path, {"http": tcp()}) as keeper:
        keeper.start(models)
        crowd = Crowd(port(keeper), "/v1/models/digits:predict", DIGIT)
        with crowd.asking():
            for _ in range(3):
                before = crowd.outcomes.total()
                until_blocking(lambda: crowd.outcomes.total() > before + 50)  # noqa: B023 - it is called at once
                keeper.stop()
                keeper.start(models)
            before = crowd.outcomes.total()
            until_blocking(lambda: crowd.outcomes.total() > before + 50)
        keeper.stop()
    assert crowd.outcomes.keys() == {"200"}, crowd.outcomes


def test_who_asks_while_models_load_is_answered_by_them(tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(DIGITS / "1", models / "digits" / "1")
    with Keeper(tmp_path, {"http": tcp()}) as keeper, Wire(port(keeper)) as early:
        early.send(request("POST", "/v1/models/digits:predict", DIGIT))
        keeper.start(models)
        assert early.answer().status == 200
        keeper.stop()


def test_who_asks_longer_than_the_bound_is_told_how_things_are(tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(DIGITS / "1", models / "digits" / "1")
    with Keeper(tmp_path, {"http": tcp()}) as keeper, Wire(port(keeper)) as early:
        early.send(request("GET", "/v2/health/ready"))
        keeper.start(models, "--set", "server.start_hold_s=0")
        assert early.answer().status == 400, "not ready, in the words of the protocol"
        keeper.stop()


def test_the_socket_decides_where_it_listens_and_not_the_configuration(tmp_path: Path) -> None:
    taken = tcp()
    with Keeper(tmp_path, {"http": tcp()}) as keeper, taken:
        keeper.start(half(tmp_path), "--port", taken.getsockname()[1])
        with Wire(port(keeper)) as wire:
            assert wire.ask(request("POST", PREDICT, HALF)).json() == HALVED
        assert f"socket from systemd: 127.0.0.1:{port(keeper)}" in keeper.log.read_text()
        keeper.stop()


def test_names_of_others_are_refused_on_a_loopback_socket_whatever_the_configuration_says(tmp_path: Path) -> None:
    with Keeper(tmp_path, {"http": tcp()}) as keeper:
        keeper.start(half(tmp_path), "--host", "0.0.0.0")
        with Wire(port(keeper)) as wire:
            assert wire.ask(b"GET /v2 HTTP/1.1\r\nHost: evil.example\r\n\r\n").status == 403
        keeper.stop()


def test_a_socket_that_others_can_reach_takes_their_names_and_is_warned_of(tmp_path: Path) -> None:
    with Keeper(tmp_path, {"http": tcp("0.0.0.0")}) as keeper:
        keeper.start(half(tmp_path))
        with Wire(port(keeper)) as wire:
            assert wire.ask(b"GET /v2 HTTP/1.1\r\nHost: device.example\r\n\r\n").status == 200
        assert "can be reached from other machines and there is no http.token_file" in keeper.log.read_text()
        keeper.stop()


@pytest.mark.parametrize("name", ["http", "uds"])
def test_a_unix_socket_is_one_by_whatever_name_it_comes_and_stays_for_the_next_server(
    name: str, tmp_path: Path
) -> None:
    path, own = tmp_path / "given.sock", tmp_path / "own.sock"
    with Keeper(tmp_path, {name: unix(path)}) as keeper:
        for _ in range(2):
            keeper.start(half(tmp_path), "--set", "http.host=", "--uds", own)
            assert ask(path, "POST", PREDICT, HALF).json() == HALVED
            assert not own.exists()
            keeper.stop()
            assert path.is_socket()


def test_the_admin_socket_may_be_given_and_answers_while_models_load(tmp_path: Path) -> None:
    path = tmp_path / "given-admin.sock"
    with Keeper(tmp_path, {"http": tcp(), "admin": unix(path)}) as keeper:
        keeper.start(half(tmp_path))
        assert ask(path, "GET", "/v1/status").status == 200
        assert not (tmp_path / "admin.sock").exists()
        keeper.stop()
        assert path.is_socket()


def test_a_socket_of_another_name_is_passed_over(tmp_path: Path) -> None:
    with Keeper(tmp_path, {"metrics": tcp()}) as keeper:
        keeper.start(half(tmp_path), "--port", "0")
        assert "socket from systemd 'metrics': want the name http, uds or admin" in keeper.log.read_text()
        keeper.stop()


# -- what it tells


def test_it_tells_of_its_start_of_reloads_and_of_its_end_in_order(tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    configuration(file, {"half": half(tmp_path)}, "[http]\nport = 0\n")
    with Keeper(tmp_path) as keeper:
        keeper.start("--config", file)
        keeper.until("STATUS", "1 model ready")
        keeper.signal(signal.SIGHUP)
        until_blocking(lambda: len(keeper.said("READY")) == 2, lambda: keeper.log.read_text())
        file.write_text("[http]\nprot = 1\n")
        keeper.signal(signal.SIGHUP)
        until_blocking(lambda: len(keeper.said("READY")) == 3, lambda: keeper.log.read_text())
        assert "the configuration was not reloaded" in keeper.said("STATUS")[-1]
        keeper.stop()
        told = [name for message in keeper.heard for name in message if name in ("READY", "RELOADING", "STOPPING")]
        assert told == ["READY", "RELOADING", "READY", "RELOADING", "READY", "STOPPING"]
        assert all("MONOTONIC_USEC" in message for message in keeper.heard if "RELOADING" in message)
        last = keeper.heard[-1]
        assert int(last["EXTEND_TIMEOUT_USEC"]) > 10_000_000, "more than drain_s"


def test_nothing_of_what_systemd_gives_and_is_told_blocks_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocking = tmp_path / "blocking"
    monkeypatch.setenv("BLOCKING_LOG", str(blocking))
    sockets = {"http": tcp(), "uds": unix(tmp_path / "given.sock"), "admin": unix(tmp_path / "given-admin.sock")}
    with Keeper(tmp_path, sockets, watchdog_s=1.2) as keeper:
        keeper.start(half(tmp_path), module="tests.functional.on_blockbuster")
        keeper.until("STATUS", "1 model ready")
        keeper.signal(signal.SIGHUP)
        until_blocking(lambda: len(keeper.said("READY")) == 2, lambda: keeper.log.read_text())
        assert ask(tmp_path / "given.sock", "POST", PREDICT, HALF).json() == HALVED
        keeper.stop()
    assert blocking.read_text() == ""


def test_a_model_that_fails_is_in_the_status(tmp_path: Path) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no model")
    with Keeper(tmp_path) as keeper:
        keeper.start("--port", "0", "--model", f"half={half(tmp_path)}", "--model", f"broken={broken}")
        keeper.until("STATUS", "1 model ready, 1 failed")
        keeper.stop()


# -- the watchdog


def looped(keeper: Keeper, *more: str) -> None:
    keeper.start(*("--model", f"loop={looping(keeper.path)}", "--set", "models.loop.instances=1", "--port", "0", *more))
    keeper.until("STATUS", "1 model ready")


def listening_at(keeper: Keeper) -> int:
    return int(keeper.log.read_text().rpartition("serving at http://127.0.0.1:")[2].split()[0])


def test_the_watchdog_hears_no_more_of_a_server_with_a_lane_that_hangs(tmp_path: Path) -> None:
    with Keeper(tmp_path, watchdog_s=1.2) as keeper:
        looped(keeper, "--set", "models.loop.max_run_s=0.5")
        with Wire(listening_at(keeper)) as wire:
            wire.send(request("POST", LOOP, FOR_EVER))
            until_blocking(lambda: "has taken longer than 0.5 s (max_run_s)" in keeper.said("STATUS")[-1])
            count = len(keeper.said("WATCHDOG"))
            assert count > 0
            time.sleep(1.2)  # systemd would end it now
            assert len(keeper.said("WATCHDOG")) == count
            assert keeper.log.read_text().count("systemd's watchdog hears no more of this process") == 1


def test_the_watchdog_hears_of_a_server_that_computes_for_long(tmp_path: Path) -> None:
    with Keeper(tmp_path, watchdog_s=0.6) as keeper:
        looped(keeper)
        with Wire(listening_at(keeper)) as wire:
            before = len(keeper.said("WATCHDOG"))
            start = time.monotonic()
            wire.send(request("POST", LOOP, b'{"inputs": [-12000000]}'))  # some seconds
            assert wire.answer().status == 200
            took_s = time.monotonic() - start
        heard = len(keeper.said("WATCHDOG")) - before
        assert took_s > 1.2, "two times what the watchdog allows"
        assert heard > took_s / 0.6
        keeper.stop()


def test_a_hang_that_nobody_waits_for_any_more_is_one_all_the_same(tmp_path: Path) -> None:
    with Keeper(tmp_path, watchdog_s=1.2) as keeper:
        looped(keeper, "--set", "models.loop.max_run_s=1.5")
        with Wire(listening_at(keeper)) as wire:
            wire.send(request("POST", LOOP, FOR_EVER, ("X-Request-Timeout-Ms: 200",)))
            assert wire.answer().status == 504
        until_blocking(lambda: "(max_run_s)" in keeper.said("STATUS")[-1])


# -- the agent


def agent_of(tmp_path: Path) -> Path:
    """An agent's configuration, whose store is not there."""
    (tmp_path / "root.json").write_text("{}")
    file = tmp_path / "agent.toml"
    file.write_text(
        f'[device]\nid = "dev-1"\n[store]\nurl = "{tmp_path / "store"}"\nroot = "{tmp_path / "root.json"}"\n'
        f'[paths]\nstate_dir = "{tmp_path / "sync"}"\nmodels_dir = "{tmp_path / "models"}"\nephemeral = true\n'
        f'admin_uds = "{tmp_path / "admin.sock"}"\n[poll]\nevery_s = 0.2\nmax_s = 0.2\n'
    )
    return file


def test_the_agent_tells_of_its_start_of_what_keeps_it_and_of_its_end_and_pings(tmp_path: Path) -> None:
    with Keeper(tmp_path, watchdog_s=1.2) as keeper:
        keeper.start("agent", "run", "--config", agent_of(tmp_path), module="sync")
        assert keeper.heard[0] == {"READY": "1", "STATUS": "no models yet"}
        until_blocking(lambda: keeper.said("STATUS")[-1].startswith("no models yet; poll: "), lambda: keeper.heard)
        until_blocking(lambda: len(keeper.said("WATCHDOG")) > 3, lambda: keeper.heard)
        keeper.stop()
        assert keeper.heard[-1]["STOPPING"] == "1"


def test_the_watchdog_hears_no_more_of_an_agent_that_stands_still(tmp_path: Path) -> None:
    with Keeper(tmp_path, watchdog_s=1.2) as keeper:
        keeper.start("agent", "run", "--config", agent_of(tmp_path), module="sync")
        until_blocking(lambda: keeper.said("WATCHDOG"))
        keeper.signal(signal.SIGSTOP)
        time.sleep(0.3)  # what was sent before
        count = len(keeper.said("WATCHDOG"))
        time.sleep(1.2)  # systemd would end it now
        assert len(keeper.said("WATCHDOG")) == count
