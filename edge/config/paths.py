"""Where things lie when nobody says so: systemd's directories first, then the XDG base directories.

Source: systemd.exec(5) on STATE_DIRECTORY; the XDG Base Directory Specification.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

MAX_SOCKET_PATH_BYTES = 107  # sun_path of unix(7), less the terminating zero
SYSTEM_RUN_DIR = Path("/run/edge")
SYSTEM_CONFIG = Path("/etc/edge/edge.toml")


def default_state_dir(env: Mapping[str, str]) -> Path:
    """What the server must remember lies here."""
    if given := env.get("STATE_DIRECTORY", ""):
        return Path(given.split(":")[0])
    if given := env.get("XDG_STATE_HOME", ""):
        return Path(given) / "edge"
    return Path(env["HOME"], ".local/state/edge") if env.get("HOME") else Path("/var/lib/edge")


def default_admin_uds(env: Mapping[str, str], state_dir: Path, run_dir: Path = SYSTEM_RUN_DIR) -> Path | None:
    """The admin socket. None where every candidate is too long for the address of a socket."""
    candidates = [state_dir / "admin.sock"]
    if given := env.get("XDG_RUNTIME_DIR", ""):
        candidates.insert(0, Path(given, "edge/admin.sock"))
    if os.access(run_dir, os.W_OK | os.X_OK):
        candidates.insert(0, run_dir / "admin.sock")
    return next((path for path in candidates if fits_socket(path)), None)


def fits_socket(path: Path) -> bool:
    return len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES


def default_config_file(env: Mapping[str, str], system: Path = SYSTEM_CONFIG) -> Path | None:
    """`$EDGE_CONFIG`, else the user's file, else the system's; None where there is none. One file is read, never two."""
    if given := env.get("EDGE_CONFIG", ""):
        return Path(given)
    home = env.get("XDG_CONFIG_HOME") or (os.path.join(env["HOME"], ".config") if env.get("HOME") else "")
    candidates = [Path(home, "edge/edge.toml"), system] if home else [system]
    return next((path for path in candidates if path.is_file()), None)
