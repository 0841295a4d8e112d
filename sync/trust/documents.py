"""Signed documents, by what they are about: `sync.agent.planner.Documents` from a `TrustClient`.

Rule: a document says itself what it is about, and is refused where that is not what was asked for: a signature says who
wrote it, not that it lies where it belongs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sync.domain.deltas import MAX_DOCUMENT_BYTES as MAX_DELTAS_BYTES
from sync.domain.deltas import Patch, parse_deltas
from sync.domain.digests import Digest
from sync.domain.errors import DocumentError, Missing, NoRollout, StoreError, TrustError
from sync.domain.layout import deltas_name, manifest_name, rollout_name
from sync.domain.release import MAX_MANIFEST_BYTES, Manifest, parse_manifest
from sync.domain.rollout import MAX_DOCUMENT_BYTES, Pin, Rollout, parse_pins, parse_rollout, pin_bin
from sync.trust.client import TrustClient, Unsigned


class SignedDocuments:
    def __init__(self, client: TrustClient) -> None:
        self._client = client

    async def refresh(self) -> None:
        await self._client.refresh()

    async def rollout(self, group: str) -> Rollout:
        """Raises NoRollout for a group that nobody has written a document for."""
        try:
            data, _ = await self._client.fetch(rollout_name(group), max_bytes=MAX_DOCUMENT_BYTES)
        except Unsigned:
            raise NoRollout(f"nothing was ever rolled out to the group {group}") from None
        document = parse_rollout(data)
        if document.group != group:
            raise DocumentError(f"rollout: want that of group {group}, got {document.group}'s")
        return document

    async def pins(self, rollout: Rollout, device_id: str) -> Mapping[str, Pin]:
        """By model; empty where the device has none."""
        try:
            path = rollout.pins_ref.replace("<bin>", pin_bin(device_id))
            data, _ = await self._client.fetch(path, max_bytes=MAX_DOCUMENT_BYTES)
        except Missing:
            return {}
        return parse_pins(data).devices.get(device_id, {})

    async def release(self, model: str, version: int) -> tuple[Manifest, Digest]:
        """With the digest of the manifest's bytes. Raises Missing for a version that was never released."""
        data, digest = await self._client.fetch(manifest_name(model, version), max_bytes=MAX_MANIFEST_BYTES)
        manifest = parse_manifest(data)
        if (manifest.name, manifest.version) != (model, version):
            raise DocumentError(f"manifest: want that of {model}@{version}, got {manifest.name}@{manifest.version}'s")
        return manifest, digest

    async def patches(self, model: str, version: int) -> Sequence[Patch]:
        """Empty where there are none or they cannot be had now: all of the file will do."""
        try:
            data, _ = await self._client.fetch(deltas_name(model, version), max_bytes=MAX_DELTAS_BYTES)
            return parse_deltas(data).patches
        except (StoreError, TrustError, DocumentError):
            return ()
