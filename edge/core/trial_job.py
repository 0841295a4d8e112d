"""What a trial is asked, and what it answers: one line of JSON each way.

Rule: both sides of the pipe read and write here, and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edge.domain.models import Artifact, ImageOptions, ModelId, ModelOptions, Platform
from edge.domain.tensors import Signature, TensorSpec


@dataclass(frozen=True, slots=True)
class TrialLimits:
    """`timeout_s` is for the whole trial, seconds; `max_memory_bytes` for all that the child allocates, runtime included."""

    timeout_s: float = 60.0
    max_memory_bytes: int = 2**30


@dataclass(frozen=True, slots=True)
class TrialReport:
    """`ok`, or why not. Times in seconds; `peak_bytes` is the child's largest resident size, `model_bytes` how much it
    grew by loading and running the model. `runs` counts golden runs, 0 for zeros. `signatures` is for people and programs
    as `describe` words it. `structural`: only the file was checked, its device being another process's."""

    ok: bool
    reason: str = ""
    load_s: float = 0.0
    run_s: float = 0.0
    first_run_s: float = 0.0
    runs: int = 0
    peak_bytes: int = 0
    model_bytes: int = 0
    device: str = ""
    notice: str = ""
    structural: bool = False
    non_finite: tuple[str, ...] = ()
    signatures: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> TrialReport:
        """Raises ValueError for anything but a report."""
        fields = json.loads(text)
        if not isinstance(fields, dict) or not isinstance(fields.get("ok"), bool):
            raise ValueError("not a report")
        try:
            return cls(**fields | {"non_finite": tuple(fields.get("non_finite", ()))})
        except TypeError as error:
            raise ValueError(str(error)) from None


@dataclass(frozen=True, slots=True)
class TrialJob:
    artifact: Artifact
    options: ModelOptions
    max_memory_bytes: int

    def to_json(self) -> str:
        artifact = self.artifact
        options = asdict(self.options)
        return json.dumps(
            {
                "model": [artifact.id.name, artifact.id.version],
                "platform": artifact.platform.value,
                "path": str(artifact.path),
                "options": options | {"cpu_twin": str(self.options.cpu_twin) if self.options.cpu_twin else None},
                "max_memory_bytes": self.max_memory_bytes,
            }
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> TrialJob:
        """The parent wrote it: anything unexpected is a bug, and raises whatever it does."""
        fields = json.loads(text)
        options = fields["options"]
        options["image"] = ImageOptions(**options["image"])
        options["cpu_twin"] = Path(options["cpu_twin"]) if options["cpu_twin"] else None
        options |= {key: tuple(options[key]) for key in ("tags", "allowed_batch_sizes")}
        artifact = Artifact(ModelId(*fields["model"]), Platform(fields["platform"]), Path(fields["path"]))
        return cls(artifact, ModelOptions(**options), fields["max_memory_bytes"])


def describe(signatures: Mapping[str, Signature]) -> dict[str, Any]:
    """`{"serving_default": {"inputs": {"x": {"dtype": "uint8", "shape": [1, 3], "scale": …, "zero_point": …}}, …}}`."""
    return {
        name: {
            "inputs": {key: _tensor(spec) for key, spec in signature.inputs.items()},
            "outputs": {key: _tensor(spec) for key, spec in signature.outputs.items()},
        }
        for name, signature in signatures.items()
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    told: dict[str, Any] = {"dtype": spec.dtype.value, "shape": None if spec.shape is None else list(spec.shape)}
    if spec.quantization:
        told |= {"scale": spec.quantization.scale, "zero_point": spec.quantization.zero_point}
    return told
