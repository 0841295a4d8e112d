"""Small JSON made smaller than a web server can make it: deflated from a text that both ends have.

A signed role is 340 bytes of which 96 say something, and gzip begins each file with nothing to refer to. Here what roles and
documents have in common is in `COMMON`. Rule 1: bytes in, the same bytes out: what is signed is not touched.
Rule 2: `COMMON` never changes under its `SUFFIX`, or devices in the field could not read what is written. Rule 3: no more
comes out than was asked for, and what is damaged is told from what is whole.

Source: RFC 1950, section 2.2 (FDICT); RFC 1951
"""

from __future__ import annotations

import re
import zlib

from sync.domain.release import MAX_PATH_CHARS

SUFFIX = ".z1"
"""Of the condensed copy's path; `1` is the version of `COMMON`."""
OVERHEAD_BYTES = 64
"""So much longer may a copy be than what is in it."""
LEVEL = 9

_METADATA = re.compile(r"metadata/[1-9]\d{0,18}\.(?!root\.json)[A-Za-z0-9_.-]+\.json\Z", re.ASCII)
_DOCUMENT = re.compile(r"targets/.+\.json\Z", re.ASCII)

_ROLE = '{"signatures":[{"keyid":"","sig":""}],"signed":{"_type":"targets",'
_END = '"expires":"2027-01-01T00:00:00Z","spec_version":"1.0.31","targets":{},"version":1}}'
_KEY = '":{"keytype":"ed25519","keyval":{"public":""},"scheme":"ed25519"}'

COMMON = "".join((
    '{"format":"edge-pins/1","seq":1,"devices":{"',
    '{"patches":[{"variant":"cpu","path":"model.tflite","from":"sha256:","to":"sha256:","digest":"sha256:",',
    '"size":100000,"format":"bsdiff40"},{"variant":"',
    '"}],"format":"edge-deltas/1"}\n',
    '{"format":"edge-model/1","name":"model","version":1,"release_counter":1,"variants":[{"id":"gpu","files":[{"path":"',
    'saved_model.pb","digest":"sha256:","size":1,"mediaType":"application/vnd.edge.saved-model"},{"path":"variables/',
    'variables.data-00000-of-00001","digest":"sha256:","size":10,"mediaType":"application/octet-stream"},{"path":"',
    'variables/variables.index","digest":"sha256:","size":10,"mediaType":"application/octet-stream"},{"path":"',
    'model.toml","digest":"sha256:","size":100,"mediaType":"application/toml"},{"path":"',
    'labels.txt","digest":"sha256:","size":1000,"mediaType":"text/plain"},{"path":"',
    'golden.npz","digest":"sha256:","size":10000,"mediaType":"application/octet-stream"},{"path":"',
    'model.tflite","digest":"sha256:","size":1000000,"mediaType":"application/vnd.edge.tflite"},{"path":"',
    '"}],"match":{"accel":["cuda"]},"match":{"accel":["edgetpu"]},"match":{"accel":["cpu"]},"priority":10,"ram_mb":40}],',
    '"match":{},"priority":0,"ram_mb":0}],"min_counter":0,"created":"2027-01-01T00:00:00Z","signature":{"inputs":[{"name":"',
    '","dtype":"int64","shape":[-1]},"dtype":"float32","shape":[-1,224,224,3]}],"outputs":[{"name":"',
    '","dtype":"uint8","shape":[-1,1000]}]},"compat":"breaking","compat":"same-signature","share":false,"share":true,',
    '"provenance":{}}\n',
    '{"format":"edge-rollout/1","group":"default","seq":1,"models":{"model":{"stable":1,"candidate":null,"candidate":{',
    '"version":1,"id":"r-2027-01-01-1","state":"done","state":"paused","state":"rolling_back","state":"running",',
    '"percent":100.0,"rings":["canary"],"rings":[],"window":"22:00-05:00","window":"","deadline":""},"probation":{',
    '"seconds":600.0,"min_requests":50,"max_error_rate":0.02,"max_p99_ratio":1.5},"swap":"replace"},"swap":"beside"}},',
    '"spread_s":3600.0,"min_rate_Bps":2000,"pins_ref":"rollouts/pins/<bin>.json"}\n"pins_ref":""}\n',
    _ROLE, '"delegations":{"keys":{"', _KEY, '},"roles":[{"keyids":[""],"name":"releases","paths":["models/*/*/manifest.json"],',
    '"terminating":true,"threshold":1},{"keyids":[""],"name":"rollouts","paths":["rollouts/*.json","rollouts/pins/*.json"],',
    '"terminating":true,"threshold":1},{"keyids":[""],"name":"deltas","paths":["models/*/*/deltas.json"],',
    '"terminating":true,"threshold":1}]},', _END,
    _ROLE, '"delegations":{"keys":{"', _KEY, '},"succinct_roles":{"bit_length":6,"keyids":["',
    '"],"name_prefix":"releases.bin","threshold":1}},"name_prefix":"rollouts.bin","threshold":1}},', _END,
    '{"signatures":[{"keyid":"","sig":""}],"signed":{"_type":"snapshot","expires":"2027-01-01T00:00:00Z","meta":{',
    '"deltas.json":{"version":1},"releases.json":{"version":1},"rollouts.json":{"version":1},"releases.bin-0.json":{"version":1},',
    *(f'"r{family}.bin-{number:02x}.json":{{"version":2}},' for family in ("eleases", "ollouts") for number in range(16)),
    '"targets.json":{"version":1}},"spec_version":"1.0.31","version":1}}',
    _ROLE, '"expires":"2026-12-31T00:00:00Z","spec_version":"1.0.31","targets":{"models/model/1/deltas.json":{"hashes":{"sha256":"',
    '"},"length":1000},"models/model/1/manifest.json":{"hashes":{"sha256":"","length":880},"rollouts/default.json":{"hashes":{',
    '"sha256":""},"length":380}},"version":1}}',
)).encode()  # fmt: skip


def has_copy(path: str) -> bool:
    """Of what never changes; roots are asked for to see that there is none."""
    if len(path) + len(SUFFIX) > MAX_PATH_CHARS:
        return False
    return _METADATA.match(path) is not None or _DOCUMENT.match(path) is not None


def condense(data: bytes) -> bytes:
    deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_DEFAULT_STRATEGY, COMMON)
    return deflate.compress(data) + deflate.flush()


def restore(copy: bytes, *, max_bytes: int) -> bytes:
    """Raises ValueError for what is no whole copy, or one of more."""
    inflate = zlib.decompressobj(zlib.MAX_WBITS, COMMON)
    try:
        data = inflate.decompress(copy, max_bytes + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(data) > max_bytes:
        raise ValueError(f"want at most {max_bytes} bytes, got more")
    if not inflate.eof or inflate.unused_data:
        raise ValueError("want a copy that ends with its object")
    return data
