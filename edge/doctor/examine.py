"""All checks, in the order in which what fails explains what comes after it.

Rule 1: nothing on the device is changed, and every check is made that can be. Rule 2: each line says what was found, and what
a person may do where it is not well. Rule 3: only what keeps a server from serving as it was told fails; what may become
a trouble warns. Rule 4: each check is bounded in time, and no check's fault ends the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from edge.config import ConfigError, Resolved
from edge.config.sections import Mqtt
from edge.doctor.children import probe
from edge.doctor.cpu import check_cpu, check_memory
from edge.doctor.edgetpu import check_edgetpu
from edge.doctor.finding import Finding, fail, ok
from edge.doctor.machine import Machine
from edge.doctor.network import check_mdns
from edge.doctor.places import check_configuration, check_models, check_state, model_sizes
from edge.doctor.port import check_ports
from edge.doctor.runtime import check_runtime

Checks = Callable[[], Finding | Iterable[Finding]]


def examine(
    read: Resolved | ConfigError, machine: Machine, *, run: Callable[[str], dict[str, Any]] = probe
) -> Iterator[Finding]:
    """`read`: the configuration, or why it cannot be used. `run`: asks a child process, as `children.probe` does."""
    yield from _guarded("configuration", lambda: check_configuration(read))
    yield from _guarded("cpu", lambda: check_cpu(machine))
    if isinstance(read, ConfigError):
        yield from _guarded("memory", lambda: check_memory(machine, ()))
        yield from _guarded("runtime", lambda: check_runtime(run))
        return
    config = read.config
    yield from _guarded("memory", lambda: check_memory(machine, model_sizes(config)))
    yield from _guarded("runtime", lambda: check_runtime(run))
    yield from _guarded("edgetpu", lambda: check_edgetpu(machine, config.models, run))
    yield from _guarded("models", lambda: check_models(machine, config))
    yield from _guarded("state", lambda: check_state(machine, config))
    yield from _guarded("port", lambda: check_ports(machine, config))
    yield from _guarded("mdns", lambda: check_mdns(machine))
    yield from _guarded("broker", lambda: _broker(config.mqtt))


def _broker(section: Mqtt) -> Finding:
    if section.host is None:
        return ok("broker", "mqtt.host is empty: no broker is asked")
    from edge.doctor.broker import check_broker  # paho is imported where there is a broker to ask

    return check_broker(section)


def _guarded(check: str, made: Checks) -> Iterator[Finding]:
    try:
        found = made()
        yield from [found] if isinstance(found, Finding) else found
    except Exception as error:  # a device may be stranger than we thought; the other checks are made all the same
        yield fail(check, f"cannot be checked: {type(error).__name__}: {error}")
