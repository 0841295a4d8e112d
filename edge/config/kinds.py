"""What values of keys may be: their types, with the bounds that are more than one key's. Nothing here reads anything."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

MIB = 1024 * 1024

Count = Annotated[int, Meta(ge=0)]
AtLeastOne = Annotated[int, Meta(ge=1)]
Bytes = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
SomeSeconds = Annotated[float, Meta(gt=0, le=1e9)]
Port = Annotated[int, Meta(ge=0, le=65535)]
Device = Annotated[
    str,
    Meta(
        pattern=r"^(cpu|edgetpu(:[0-9]+)?|usb:[0-9]+|pci:[0-9]+|gpu(:[0-9]+)?)$",
        description="cpu, edgetpu, edgetpu:N, usb:N, pci:N, gpu or gpu:N",
    ),
]
Rows = Annotated[int, Meta(ge=0, le=65536)]
SomeRows = Annotated[int, Meta(ge=1, le=65536)]
Weight = Annotated[float, Meta(ge=0, le=1e9)]
Share = Annotated[float, Meta(ge=0, le=1)]
Tolerance = Annotated[float, Meta(ge=0, le=1e300)]
HeaderName = Annotated[
    str, Meta(pattern=r"^([A-Za-z0-9!#$%&'*+.^_`|~-]{1,64})?$", description="a header's name of at most 64 characters")
]
Prefer = Literal["auto", "tflite", "savedmodel"]
Node = Annotated[
    str,
    Meta(
        pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$",
        description="at most 63 of a-z 0-9 and inner hyphens",
    ),
]
_LEVEL = "[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
Prefix = Annotated[
    str, Meta(pattern=rf"^{_LEVEL}(/{_LEVEL}){{0,3}}$", description="one to four levels such as edge or site/edge")
]
Group = Annotated[str, Meta(pattern=rf"^{_LEVEL}$")]
UrlPath = Annotated[
    str, Meta(pattern=r"^/[!-~]{0,255}$", description="a path such as /metrics, at most 256 characters")
]
Mode = Annotated[str, Meta(pattern=r"^0?[0-7]{3}$", description='an octal mode such as "0660"')]
