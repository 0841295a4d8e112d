"""All checks, in the order in which what fails explains what comes after it.

Rule 1: nothing on the device is changed, and every check is made that can be. Rule 2: each line says what was found, and what
a person may do where it is not well. Rule 3: only what keeps updates away fails; what may become a trouble warns.
"""

from __future__ import annotations

import asyncio
import stat
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from sync.agent.board import is_running, read_situation
from sync.agent.files import OsFiles
from sync.agent.status import tell
from sync.agent.view import View
from sync.agent.words import amount, lasting
from sync.config import Config
from sync.doctor.access import check_access
from sync.doctor.broker import check_broker
from sync.doctor.crash import check_crash
from sync.doctor.disk import check_floor, check_journal, check_outbox, check_places, check_room
from sync.doctor.finding import Finding, Level, fail, ok, warn
from sync.doctor.look import ask_server, look, places_of
from sync.doctor.server import check_server, check_told
from sync.doctor.store import Asked, check_clock, check_root, check_store
from sync.domain.errors import DiskError, DocumentError, OperatorError
from sync.domain.journal import Journal
from sync.domain.ports import ServerHealth
from sync.domain.rollout import opens_in_s

SECRETS = frozenset({"store.token_file", "report.token_file", "mqtt.password_file", "mqtt.key_file"})


async def examine(config: Config, *, now: Callable[[], float] = time.time) -> list[Finding]:
    """now: seconds since the epoch, by the device's clock."""
    server = await ask_server(config)
    asked = await asyncio.to_thread(check_root, config)
    if asked.root is not None and config.store.url:
        answered = await check_store(config, asked.root, now)
        asked = Asked(asked.root, [*asked.findings, *answered.findings], answered.error)
        unasked = False
    else:
        unasked = True
    view, broken = await _view(config)
    return await asyncio.to_thread(_all, config, server, asked, unasked, view, broken, now())


async def _view(config: Config) -> tuple[View | None, DiskError | DocumentError | None]:
    try:
        return await look(config), None
    except (DiskError, DocumentError) as error:
        return None, error


def _all(
    config: Config,
    server: ServerHealth | str,
    asked: Asked,
    unasked: bool,
    view: View | None,
    broken: DiskError | DocumentError | None,
    now: float,
) -> list[Finding]:
    journal = view.journal if view is not None else None
    floor, floor_time = check_floor(config, journal)
    findings = [*check_configuration(config), *asked.findings]
    if unasked:
        findings.append(warn("store", "not asked, for what it would be asked by is missing", "see above"))
    findings.append(_clock(asked, unasked, floor_time, now))
    findings += [check_room(config, journal), check_places(config), *check_access(config, view)]
    findings += check_server(config, server)
    if view is not None:
        findings += check_told(view)
    findings += [*check_journal(config, broken or journal or Journal()), floor, check_outbox(config)]
    local = datetime.fromtimestamp(now).astimezone()
    findings += [_agent(config, view), check_network(config, local), check_peers(config)]
    findings.append(check_broker(config, view))
    findings += check_crash(config, journal) if journal is not None else ()
    return findings


def _clock(asked: Asked, unasked: bool, floor_time: float, now: float) -> Finding:
    silent = OperatorError("nobody was asked") if unasked else None
    return check_clock(asked.error or silent, floor_time, now)


def check_configuration(config: Config) -> Iterator[Finding]:
    device, bad = config.device, False
    if not config.store.url:
        bad = True
        yield fail("configuration", OperatorError("store.url: want a directory or a URL, got nothing"), "set store.url")
    files = {
        "store.token_file": config.store.token_file,
        "report.token_file": config.report.token_file,
        "store.ca_file": config.store.ca_file,
        "mqtt.password_file": config.mqtt.password_file,
        "mqtt.ca_file": config.mqtt.ca_file,
        "mqtt.cert_file": config.mqtt.cert_file,
        "mqtt.key_file": config.mqtt.key_file,
    }
    for key, name in files.items():
        if not name:
            continue
        try:
            found = Path(name).stat()
            Path(name).open("rb").close()
        except OSError as error:
            bad = True
            yield fail(
                "configuration", OperatorError(f"{key}: {name}: {error.strerror}"), "let the agent's user read it"
            )
        else:
            if key in SECRETS and found.st_mode & (stat.S_IROTH | stat.S_IWGRP | stat.S_IWOTH):
                what = "token" if key.endswith("token_file") else "secret"
                yield warn("configuration", f"{key}: {name}: others may read or change the {what}", "chmod 0600")
    if not bad:
        yield ok(
            "configuration", f"device {device.id} of the group {device.group}, with {', '.join(device.accelerators)}"
        )


def check_network(config: Config, local: datetime) -> Finding:
    """local: the time in the device's zone."""
    limit, window = config.network.limit_Bps, config.network.window
    text = f"downloads take at most {amount(limit)} a second" if limit else "downloads take what the network has"
    if not window:
        return ok("network", f"{text}, at any time")
    opens_s = opens_in_s(window, local)
    now = f"it opens in {lasting(opens_s)}" if opens_s else "it is open"
    return ok("network", f"{text}, in the window {window}: by this clock it is {local:%H:%M %Z}, and {now}")


def check_peers(config: Config) -> Finding:
    """Blocks."""
    network = config.network
    if network.peers == "off":
        return ok("peers", "off: neighbours are neither asked nor given anything")
    from sync.agent.discovery import own_hosts
    from sync.agent.sharing import on_battery

    hosts = own_hosts(network.peer_interfaces)
    if not hosts:
        where = ", ".join(network.peer_interfaces) or "any interface"
        return warn(
            "peers", f"there is no private address at {where}: no neighbour is found", "see network.peer_interfaces"
        )
    text = f"{network.peers} on {', '.join(hosts)}"
    if network.peers == "use_and_share" and (why := on_battery()):
        return ok("peers", f"{text}; nothing is given now: {why}")
    return ok("peers", text)


def _agent(config: Config, view: View | None) -> Finding:
    """Whether it runs, and what it says of its last poll."""
    if view is None:
        situation = None
        try:
            situation = read_situation(OsFiles(), places_of(config).situation)
        except DiskError as error:
            return warn("agent", error.message, "run this as the agent's user, or as root")
        view = View(Journal(), time.time(), situation, situation is not None and is_running(situation.process))
    told = tell(view)
    if not view.running:
        return warn("agent", told.agent, "start it: `edge-sync agent run`, or its unit")
    level = Level.WARN if told.problem is not None else Level.OK
    return Finding("agent", level, told.agent)
