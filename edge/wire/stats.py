"""The figures of a server as JSON: what `GET /stats` answers, and what is told over MQTT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from edge.domain.ports import Catalog, ModelStatus, VersionStatus
from edge.telemetry.build import Boot


def stats(boot: Boot, catalog: Catalog, figures: Mapping[str, Mapping[str, float]]) -> bytes:
    """`figures`: by model, `rate` in requests a second, `p50_s` and `p99_s` in seconds; a model that is missing has none."""
    body = {
        "server": {
            "version": boot.version,
            "started": boot.started,
            "boot_id": boot.boot_id,
            "ready": catalog.ready,
        },
        "models": [_model(model, figures.get(model.name, {})) for model in catalog.models()],
    }
    return msgspec.json.encode(body)


def _model(model: ModelStatus, figures: Mapping[str, float]) -> dict[str, Any]:
    return {
        "name": model.name,
        "labels": dict(model.labels),
        "problem": model.problem,
        "rate": figures.get("rate", 0.0),
        "p50_ms": figures.get("p50_s", 0.0) * 1000,
        "p99_ms": figures.get("p99_s", 0.0) * 1000,
        "versions": [_version(version) for version in model.versions],
    }


def _version(version: VersionStatus) -> dict[str, Any]:
    return {
        "version": str(version.id.version),
        "state": version.state.value,
        "reason": version.reason,
        "device": version.device,
        "notice": version.notice,
        "requests": version.total_requests,
        "failures": version.total_unserved,
        "queue": version.queue_depth,
    }
