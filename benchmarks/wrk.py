"""A closed loop by wrk, which takes less of the machine than a loop in Python does; every answer is checked there, too."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

SCRIPT = """
local function all(name)
  local file = io.open(name, "rb")
  local text = file:read("*a")
  file:close()
  return text
end
local right = all("{place}/right")
local threads = {{}}
wrk.method = "POST"
wrk.body = all("{place}/body")
{headers}
function setup(thread) table.insert(threads, thread) end
function init(args) bad = 0 end
function response(status, headers, body)
  if status ~= 200 or body ~= right then bad = bad + 1 end
end
function done(summary, latency, requests)
  local wrong = summary.errors.connect + summary.errors.read + summary.errors.timeout
  for _, thread in ipairs(threads) do wrong = wrong + thread:get("bad") end
  print(string.format('{{"per_s": %f, "count": %d, "wrong": %d}}', summary.requests / summary.duration * 1e6, summary.requests, wrong))
end
"""


def closed(
    program: str,
    place: Path,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    right: bytes,
    *,
    clients: int,
    seconds: float,
) -> tuple[float, int]:
    """Requests a second, and how many there were. `place`: a directory for its files. Raises RuntimeError where an answer is another than `right`."""
    (place / "body").write_bytes(body)
    (place / "right").write_bytes(right)
    lines = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items())
    (place / "load.lua").write_text(SCRIPT.format(place=place, headers=lines))
    command = [program, "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", "-s", str(place / "load.lua"), url]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 30)
    found = json.loads(done.stdout.strip().splitlines()[-1])
    if found["wrong"]:
        raise RuntimeError(f"{found['wrong']} answers were wrong or failed")
    return float(found["per_s"]), int(found["count"])
