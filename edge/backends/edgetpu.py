"""The Edge TPU: what a device is called, and the delegate that reaches it.

Rule 1: opening a device does not hold the interpreter lock, so that the server answers meanwhile: a USB accelerator
gets its firmware then, which takes seconds. (The runtimes' own `load_delegate` holds it.)
Rule 2: LoadError is all that comes out, and it names the library and the device.

The library's entry points are those of every external delegate:
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/lite/delegates/external/external_delegate_interface.h
Device names: https://coral.ai/docs/edgetpu/multiple-edgetpu/
"""

from __future__ import annotations

import ctypes
import os
import re

from edge.domain.errors import LoadError

LIBRARY_VARIABLE = "EDGE_EDGETPU_LIBRARY"
DEFAULT_LIBRARY = "libedgetpu.so.1"
_DEVICE = re.compile(r"(edgetpu|usb|pci)(?::(\d{1,3}))?", re.ASCII)
_Report = ctypes.CFUNCTYPE(None, ctypes.c_char_p)


def library() -> str:
    """The shared library that drives Edge TPUs: `EDGE_EDGETPU_LIBRARY`, else where the system finds Coral's."""
    return os.environ.get(LIBRARY_VARIABLE) or DEFAULT_LIBRARY


def is_edgetpu(device: str) -> bool:
    """False for `cpu`. Raises LoadError for what names no device at all."""
    if device == "cpu":
        return False
    if _DEVICE.fullmatch(device) is None:
        raise LoadError(f"device: want cpu, edgetpu, edgetpu:N, usb:N or pci:N, got {device!r}")
    return True


def delegate_options(device: str) -> dict[str, str]:
    """`edgetpu` → any; `edgetpu:1` → the second of all; `usb:0` → the first on USB."""
    match = _DEVICE.fullmatch(device)
    assert match is not None, device
    kind, number = match.groups()
    name = ("" if kind == "edgetpu" else kind) + ("" if number is None else f":{number}")
    return {"device": name} if name else {}


class Delegate:
    """An open device, as the runtimes' interpreters take it. It must outlive them."""

    def __init__(self, device: str) -> None:
        """Raises LoadError when the library or the device is not there, or the device is another process's."""
        self._pointer: int | None = None
        where = library()
        try:
            self._library = ctypes.CDLL(where)
            create = self._library.tflite_plugin_create_delegate
            self._destroy = self._library.tflite_plugin_destroy_delegate
        except (OSError, AttributeError) as error:
            raise LoadError(f"{device}: the Edge TPU library {where} cannot be loaded: {error}") from None
        create.restype = ctypes.c_void_p
        create.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.POINTER(ctypes.c_char_p), ctypes.c_size_t, _Report]
        self._destroy.restype = None
        self._destroy.argtypes = [ctypes.c_void_p]
        options = delegate_options(device)
        said: list[bytes] = []
        keys = (ctypes.c_char_p * len(options))(*[key.encode() for key in options])
        values = (ctypes.c_char_p * len(options))(*[value.encode() for value in options.values()])
        self._pointer = create(keys, values, len(options), _Report(said.append))
        if self._pointer is None:
            why = (
                " ".join(text.decode("utf-8", "replace") for text in said if text) or "no such device, or it is in use"
            )
            raise LoadError(f"{device}: {where} cannot open it: {why}")

    def _get_native_delegate_pointer(self) -> int | None:
        """The name by which the runtimes' interpreters ask for it."""
        return self._pointer

    def close(self) -> None:
        """Gives the device back. Idempotent."""
        pointer, self._pointer = self._pointer, None
        if pointer is not None:
            self._destroy(pointer)
