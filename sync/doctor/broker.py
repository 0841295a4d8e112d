"""Whether the agent can have its connection to an MQTT broker. No update needs it: nothing here fails but what the agent
does not start with."""

from __future__ import annotations

from sync.agent.view import View
from sync.agent.words import plain
from sync.config import Config
from sync.doctor.finding import Finding, fail, ok, warn
from sync.domain.errors import OperatorError


def check_broker(config: Config, view: View | None) -> Finding:
    """view: None where it could not be looked at."""
    told = config.mqtt
    if not told.host:
        return ok("mqtt", "off: nobody nudges, and nothing is reported there")
    from sync.agent.messaging import settings_of, tree_of

    try:
        settings = settings_of(told, "doctor")
        tree_of(told, config.device.id)
    except OperatorError as error:
        return fail("mqtt", error, "mend the file, the variable or the flag: the agent does not start so")
    where = f"{settings.host}:{settings.port}"
    seen = view.situation.broker if view is not None and view.running and view.situation is not None else None
    if seen is None:
        return ok("mqtt", f"{where}, which the agent connects to when it runs")
    if not seen.connected:
        return warn(
            "mqtt", f"{where}: the agent is not connected", "see its log, and that the broker is up and lets it in"
        )
    ignored = f"; {seen.garbage} messages were ignored, the last: {plain(seen.why)}" if seen.garbage else ""
    return ok("mqtt", f"{where}: the agent is connected{ignored}")
