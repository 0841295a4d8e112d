"""What a server says of itself on the local network, and what may be believed of it.

Rule 1: whoever sends a packet writes these words, so every one has a form and a bound; one out of form makes the whole
advert none. Rule 2: no model's name is in it: a list would not fit, and would tell strangers.
Sources: RFC 6763 (DNS-SD), 6.1 to 6.7 on TXT records; RFC 6335, 5.1 on names of services.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

SERVICE = "_edge-infer._tcp.local."
HTTP_SERVICE = "_http._tcp.local."
TXT_VERSION = "1"
MAX_TXT_BYTES = 200
"""Of what is announced: each string is a byte for its length, the key, `=`, the value."""
MAX_READ_BYTES = 1300
"""Of what is read: more does not come in one packet of Ethernet."""
HASH_DIGITS = 8
_ID = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
_RELEASE = re.compile(r"[0-9A-Za-z.+-]{1,32}", re.ASCII)
_PATH = re.compile(r"/|(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,30}){1,3}/?", re.ASCII)
_WORDS = re.compile(r"(?:[a-z0-9]{1,16}(?:,[a-z0-9]{1,16}){0,7})?", re.ASCII)
_COUNT = re.compile(r"[0-9]{1,6}", re.ASCII)
_HASH = re.compile(r"(?:[0-9a-f]{8})?", re.ASCII)
_PREFIX = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9_.-]{0,63}(?:/[A-Za-z0-9][A-Za-z0-9_.-]{0,63}){0,3})?", re.ASCII)
"""As mqtt.prefix has it."""


@dataclass(frozen=True, slots=True)
class Advert:
    """One server. `path` is where its API begins, `devices` what its models run on, `auth` `none` or `bearer`;
    `models_hash` changes whenever the set of ready versions does; `mqtt` is the prefix of its topics, empty for none."""

    id: str
    release: str
    api: tuple[str, ...] = ("v1", "v2")
    path: str = "/"
    tls: bool = False
    auth: str = "none"
    devices: tuple[str, ...] = ()
    models: int = 0
    models_hash: str = ""
    mqtt: str = ""


def to_txt(advert: Advert) -> dict[str, str]:
    """The strings of the TXT record in their order, of at most MAX_TXT_BYTES: what can be done without goes first."""
    said = {
        "txtvers": TXT_VERSION,
        "id": advert.id,
        "ver": advert.release[:32],
        "api": ",".join(advert.api),
        "path": advert.path,
        "tls": str(int(advert.tls)),
        "auth": advert.auth,
        "dev": ",".join(advert.devices),
        "nmodels": str(min(advert.models, 999_999)),
        "mhash": advert.models_hash,
    }
    if advert.mqtt:
        said["mqtt"] = advert.mqtt
    for dispensable in ("mqtt", "dev"):
        if txt_bytes(said) > MAX_TXT_BYTES:
            said.pop(dispensable, None)
    return said


def txt_bytes(said: Mapping[str, str]) -> int:
    return sum(len(f"{key}={value}".encode()) + 1 for key, value in said.items())


def from_txt(strings: Mapping[bytes, bytes | None]) -> Advert:
    """A TXT record of somebody → what it says. Raises ValueError: `path: want …, got …`."""
    if sum(len(key) + len(value or b"") + 2 for key, value in strings.items()) > MAX_READ_BYTES:
        raise ValueError(f"want a TXT record of at most {MAX_READ_BYTES} bytes")
    said: dict[str, str] = {}
    for key, value in strings.items():
        said.setdefault(key.decode("ascii", "replace").lower(), (value or b"").decode("utf-8", "replace"))
    if said.get("txtvers") != TXT_VERSION:
        raise ValueError(f"txtvers: want {TXT_VERSION}, got {said.get('txtvers', 'none')[:40]!r}")
    return Advert(
        id=_one(said, "id", _ID),
        release=_one(said, "ver", _RELEASE),
        api=_words(said, "api"),
        path=_one(said, "path", _PATH, "/"),
        tls=_one(said, "tls", re.compile("[01]"), "0") == "1",
        auth=_one(said, "auth", re.compile("none|bearer"), "none"),
        devices=_words(said, "dev"),
        models=int(_one(said, "nmodels", _COUNT, "0")),
        models_hash=_one(said, "mhash", _HASH, ""),
        mqtt=_one(said, "mqtt", _PREFIX, ""),
    )


def _one(said: Mapping[str, str], key: str, form: re.Pattern[str], default: str | None = None) -> str:
    value = said.get(key, default)
    if value is None or not form.fullmatch(value):
        raise ValueError(f"{key}: want {form.pattern}, got {(value or 'none')[:40]!r}")
    return value


def _words(said: Mapping[str, str], key: str) -> tuple[str, ...]:
    return tuple(filter(None, _one(said, key, _WORDS, "").split(",")))


def models_hash(ready: Iterable[tuple[str, int]]) -> str:
    """Names and versions, in any order → HASH_DIGITS of hex, equal for equal sets."""
    text = "\n".join(f"{name}/{version}" for name, version in sorted(ready))
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_DIGITS]
