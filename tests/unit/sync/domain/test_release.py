from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from sync.domain.digests import digest_of
from sync.domain.errors import DocumentError, Reason, Unsuitable
from sync.domain.release import File, Manifest, Variant, choose_variant, encode_manifest, parse_manifest

DIGEST = digest_of(b"x")
FILE = File("model.tflite", DIGEST, 1)


def manifest(*variants: Variant) -> Manifest:
    return Manifest("edge-model/1", "m", 17, 17, variants or (Variant("cpu", (FILE,)),))


def variant(name: str, priority: int, *accelerators: str, ram_mb: int = 0) -> Variant:
    return Variant(name, (FILE,), {"accel": accelerators}, priority, ram_mb)


CPU, TPU, GPU = (
    variant("cpu", 10, "cpu", ram_mb=40),
    variant("tpu", 30, "edgetpu", ram_mb=24),
    variant("gpu", 40, "cuda"),
)


@pytest.mark.parametrize(
    ("have", "name"), [(["cpu"], "cpu"), (["cpu", "edgetpu"], "tpu"), (["cpu", "cuda", "edgetpu"], "gpu")]
)
def test_a_device_takes_the_best_variant_that_it_has_everything_for(have: list[str], name: str) -> None:
    assert choose_variant(manifest(CPU, TPU, GPU), have).id == name


def test_a_device_without_any_of_it_says_so() -> None:
    with pytest.raises(Unsuitable, match="m@17: no variant \\(tpu, gpu\\) runs on cpu") as caught:
        choose_variant(manifest(TPU, GPU), ["cpu"])
    assert caught.value.reason is Reason.NO_VARIANT


def test_a_variant_that_needs_more_memory_than_there_is_is_passed_over() -> None:
    assert choose_variant(manifest(CPU, TPU), ["cpu", "edgetpu"], memory_mb=30).id == "tpu"
    with pytest.raises(Unsuitable, match="want 24 MiB of memory, 20 are available") as caught:
        choose_variant(manifest(CPU, TPU), ["cpu", "edgetpu"], memory_mb=20)
    assert caught.value.reason is Reason.LOW_MEMORY


def test_a_condition_that_is_not_known_is_not_met() -> None:
    odd = Variant("odd", (FILE,), {"accel": ("cpu",), "kernel": ("6",)}, 99)
    assert choose_variant(manifest(CPU, odd), ["cpu"]).id == "cpu"


def test_a_manifest_is_read_as_it_was_written() -> None:
    one = manifest(CPU, TPU)
    data = encode_manifest(one)
    assert parse_manifest(data) == one
    assert json.loads(data)["variants"][0]["files"][0].keys() == {"path", "digest", "size", "mediaType"}


PLAIN: dict[str, Any] = json.loads(encode_manifest(manifest()))


def with_files(*files: dict[str, Any]) -> dict[str, Any]:
    return {**PLAIN, "variants": [{"id": "cpu", "files": list(files)}]}


def file(path: str, **more: Any) -> dict[str, Any]:
    return {"path": path, "digest": DIGEST, "size": 1, **more}


BAD_PATHS = [
    "",
    "/etc/passwd",
    "../x",
    "a/../b",
    "a//b",
    "./a",
    "a/",
    "a\\b",
    "c:x",
    "a\nb",
    "a\0b",
    "e\u0301",
    "x" * 256,
]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_path_that_may_lead_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(DocumentError, match=r"^manifest: path"):
        parse_manifest(msgspec.json.encode(with_files(file(path))))


@pytest.mark.parametrize(
    "path", ["model.tflite", "variables/variables.data-00000-of-00001", "…/ä.txt", "..a", "x" * 255]
)
def test_a_path_that_stays_where_it_is_put_is_taken(path: str) -> None:
    assert parse_manifest(msgspec.json.encode(with_files(file(path)))).variants[0].files[0].path == path


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({**PLAIN, "format": "edge-model/2"}, "format: want 'edge-model/1'"),
        ({**PLAIN, "name": "a/b"}, "name: want a model's name"),
        ({**PLAIN, "version": -1}, "version: want an integer from 0"),
        ({**PLAIN, "version": 2**63}, "version: want an integer from 0"),
        ({**PLAIN, "version": 1.5}, "Expected `int`"),
        ({**PLAIN, "variants": []}, "variants: want 1 to 32, got 0"),
        ({**PLAIN, "variants": PLAIN["variants"] * 2}, "want each id once"),
        ({**PLAIN, "variants": [{"id": "cpu", "files": []}]}, "want 1 to 4096 files, got 0"),
        (with_files(file("a"), file("a")), "want each path once"),
        (with_files(file("a"), file("a/b")), "a/b: lies below what is a file"),
        (with_files(file("a", digest="md5:1")), "want sha256:"),
        (with_files(file("a", digest="sha256:" + "A" * 64)), "want sha256:"),
        (with_files(file("a", size=-1)), "want a size from 0"),
        ({**PLAIN, "compat": "maybe"}, "Invalid enum value 'maybe'"),
    ],
)
def test_a_manifest_that_breaks_a_bound_is_refused_with_the_reason(document: dict[str, Any], text: str) -> None:
    with pytest.raises(DocumentError, match=r"^manifest: ") as caught:
        parse_manifest(json.dumps(document).encode())
    assert text in caught.value.message


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"[" * 100_000, b" " * ((1 << 20) + 1)])
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError, match=r"^manifest: "):
        parse_manifest(data)


def test_an_operator_is_told_before_anything_is_written() -> None:
    with pytest.raises(DocumentError, match="want 1 to 32"):
        encode_manifest(Manifest("edge-model/1", "m", 1, 1, ()))
