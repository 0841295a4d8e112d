"""What the AWS tools take from the environment and their files, for a bucket. Pure but for reading those files.

Rule 1: a variable beats a file, and what is for S3 alone what is for every service. Rule 2: no secret is in a message or in
`repr`. Rule 3: without TLS only this machine is spoken to, unless `AWS_ALLOW_HTTP` says otherwise.

Source: https://docs.aws.amazon.com/sdkref/latest/guide/settings-reference.html
"""

from __future__ import annotations

import configparser
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sync.domain.errors import OperatorError
from sync.domain.release import check_path

MAX_FILE_BYTES = 1 << 20
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
ELSEWHERE = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
"""Who has one of these gets its keys from a service."""
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Keys:
    """All empty where a service of the machine's hands them out."""

    access_key_id: str = field(default="", repr=False)
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Bucket:
    """endpoint: "" for Amazon's own. plain: to be spoken to without TLS. anonymous: requests are not signed."""

    bucket: str
    prefix: str
    endpoint: str = ""
    region: str = ""
    plain: bool = False
    anonymous: bool = False
    keys: Keys = Keys()
    ca_file: Path | None = None

    @property
    def name(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


def bucket_of(url: str, environment: Mapping[str, str], *, ca_file: Path | None = None) -> Bucket:
    """url: `s3://bucket/prefix`. Raises OperatorError."""
    bucket, prefix = _parts(url)
    profile = _profile(environment)
    endpoint = _first(environment, ENDPOINTS) or profile.get("endpoint_url", "")
    bundle = environment.get("AWS_CA_BUNDLE", "")
    anonymous = _said(environment, "AWS_SKIP_SIGNATURE")
    return Bucket(
        bucket,
        prefix,
        endpoint,
        _first(environment, REGIONS) or profile.get("region", ""),
        _is_plain(endpoint, environment) if endpoint else False,
        anonymous,
        Keys() if anonymous else _keys(environment, profile),
        ca_file or (Path(bundle) if bundle else None),
    )


def _parts(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise OperatorError("store: want s3://bucket/prefix and the keys in the environment, got keys in the URL")
    prefix = unquote(parts.path.removeprefix("/").removesuffix("/"))
    if not _BUCKET.match(parts.netloc) or parts.query or parts.fragment:
        raise OperatorError(f"store: want s3://bucket/prefix, got {url!r}")
    try:
        if prefix:
            check_path(prefix)
    except ValueError as error:
        raise OperatorError(f"store: {error}") from None
    return parts.netloc, prefix


def _is_plain(endpoint: str, environment: Mapping[str, str]) -> bool:
    """Whether it is without TLS. Raises OperatorError where it must not be."""
    try:
        parts = urlsplit(endpoint)
        known = parts.scheme in ("http", "https") and bool(parts.hostname)
        shown = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
    except ValueError:
        known = False
    if not known or parts.username is not None or parts.password is not None or parts.query:
        raise OperatorError(f"{' or '.join(ENDPOINTS[:2])}: want https://host, without keys in it")
    if parts.scheme == "https":
        return False
    if not _is_loopback(parts.hostname or "") and not _said(environment, "AWS_ALLOW_HTTP"):
        raise OperatorError(
            f"store: want an endpoint with https://, got {shown}; AWS_ALLOW_HTTP=true takes it as it is"
        )
    return True


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _keys(environment: Mapping[str, str], profile: Mapping[str, str]) -> Keys:
    if environment.get("AWS_ACCESS_KEY_ID"):
        found = {name: environment.get(f"AWS_{name}".upper(), "") for name in Keys.__dataclass_fields__}
    elif any(environment.get(name) for name in ELSEWHERE):
        return Keys()
    else:
        found = {name: profile.get(f"aws_{name}", "") for name in Keys.__dataclass_fields__}
    keys = Keys(**found)
    if bool(keys.access_key_id) != bool(keys.secret_access_key):
        raise OperatorError("store: want AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, got one without the other")
    if not keys.access_key_id and _said(environment, "AWS_EC2_METADATA_DISABLED"):
        raise OperatorError("store: want AWS_ACCESS_KEY_ID, or AWS_SKIP_SIGNATURE=true for a bucket that all may read")
    return keys


def _profile(environment: Mapping[str, str]) -> Mapping[str, str]:
    """What the tools' two files say; the credentials' own file first."""
    asked = environment.get("AWS_PROFILE", "")
    name = asked or "default"
    home = Path(environment["HOME"]) / ".aws" if environment.get("HOME") else None
    found: dict[str, str] = {}
    seen = False
    for variable, file, section in (
        ("AWS_CONFIG_FILE", "config", name if name == "default" else f"profile {name}"),
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials", name),
    ):
        path = Path(environment[variable]).expanduser() if environment.get(variable) else home and home / file
        table = _read(path).get(section) if path is not None else None
        if table is not None:
            found |= table
            seen = True
    if asked and not seen:
        raise OperatorError(f"AWS_PROFILE: no profile {asked!r} in the configuration of the AWS tools")
    return found


def _read(path: Path) -> Mapping[str, Mapping[str, str]]:
    """Sections; none where there is no such file. Raises OperatorError, which quotes nothing."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise OperatorError(f"{path}: cannot be read: {error.strerror}") from None
    parser = configparser.ConfigParser(interpolation=None, default_section="\0", strict=False)
    try:
        if len(data) > MAX_FILE_BYTES:
            raise ValueError
        parser.read_string(data.decode())
    except (configparser.Error, ValueError):
        raise OperatorError(f"{path}: want sections with keys in them, in at most {MAX_FILE_BYTES} bytes") from None
    return {name: dict(parser[name]) for name in parser.sections()}


def _first(environment: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((environment[name] for name in names if environment.get(name)), "")


def _said(environment: Mapping[str, str], name: str) -> bool:
    return environment.get(name, "").lower() in ("1", "true", "yes", "on")
