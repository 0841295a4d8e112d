"""ModelServerConfig → models, and what TensorFlow Serving would not take, in its words.

Source: tensorflow_serving/model_servers/server_core.cc. Rule: pure. The order of the checks is the original's: names, paths,
platforms, and labels when a config takes another's place.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge.config.tfserving.files import Refused, invalid
from edge.domain.layout import is_model_name

PLATFORM = "tensorflow"
"""The only one that TensorFlow Serving has without a platform_config_file; TFLite models go by it, too."""
TYPES = {1: PLATFORM}
"""model_type, which is older."""


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """`policy` in the words of our configuration. `logging`: whether the entry wants requests to be logged."""

    name: str
    base_path: str
    platform: str = PLATFORM
    policy: str = "latest:1"
    labels: Mapping[str, int] = field(default_factory=dict)
    logging: bool = False


def entries(config: Mapping[str, Any]) -> list[ModelEntry]:
    """The models of a ModelServerConfig, in its order. Raises Refused."""
    if "custom_model_config" in config:
        raise Refused("UNIMPLEMENTED", "ModelServer does not yet support custom model config.")
    listed: Sequence[Mapping[str, Any]] = config.get("model_config_list", {}).get("config", [])
    seen: set[str] = set()
    for model in listed:
        name = model.get("name", "")
        if name in seen:
            raise invalid(f"Illegal to list model {name} multiple times in config list")
        seen.add(name)
    for model in listed:
        check_base_path(model.get("name", ""), model.get("base_path", ""))
    return [_entry(model) for model in listed]


def check_base_path(name: str, path: str) -> None:
    """Raises Refused."""
    if "://" in path:
        raise invalid(
            f"model {name}: want a base_path on this machine, got {path}; edge-sync brings models from stores"
        )
    if not path.startswith("/"):
        raise invalid(f"Expected model {name} to have an absolute path or URI; got base_path()={path}")


def _entry(model: Mapping[str, Any]) -> ModelEntry:
    name = model.get("name", "")
    if not is_model_name(name):
        raise invalid(f"model {name!r}: want a name of 1 to 128 of A-Z a-z 0-9 _ . - with a letter or digit first")
    return ModelEntry(
        name=name,
        base_path=model["base_path"],
        platform=_platform(name, model),
        policy=_policy(name, model.get("model_version_policy", {})),
        labels=_labels(name, model.get("version_labels", {})),
        logging="logging_config" in model,
    )


def _platform(name: str, model: Mapping[str, Any]) -> str:
    platform, kind = str(model.get("model_platform", "")), model.get("model_type", 0)
    if kind and platform:
        raise invalid(
            "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform, "
            f"model name is {name}"
        )
    if kind and kind not in TYPES:
        raise invalid(f"ModelServerConfig::model_type choice {kind} not supported.")
    platform = platform or TYPES.get(kind, "")
    if not platform:
        raise invalid(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform, "
            f"model name is {name}"
        )
    return platform


def check_platforms(models: Sequence[ModelEntry], before: Mapping[str, str]) -> None:
    """`before`: the platforms of models that there are, by name. Raises Refused."""
    for model in models:
        if (old := before.get(model.name, model.platform)) != model.platform:
            raise invalid(
                f"Illegal to change a model's platform. For model {model.name} platform was {old} and new platform "
                f"requested is {model.platform}"
            )
    for model in models:
        if model.platform != PLATFORM:
            raise invalid(f"Model {model.name} requests unsupported platform {model.platform}")


def _policy(name: str, policy: Mapping[str, Any]) -> str:
    if "all" in policy:
        return "all"
    if "specific" in policy:
        versions = policy["specific"].get("versions", [])
        if not versions or min(versions) < 0:
            raise invalid(f"model {name}: specific: want versions of at least 0, got {versions}")
        return "specific:" + ",".join(map(str, versions))
    return f"latest:{max(1, policy.get('latest', {}).get('num_versions', 1))}"


def _labels(name: str, labels: Mapping[str, int]) -> Mapping[str, int]:
    for label, version in labels.items():
        if not label or version < 1:
            raise invalid(
                f"model {name}: version_labels: want names and versions of at least 1, got {label!r}: {version}"
            )
    return dict(labels)


def check_labels(
    labels: Mapping[str, Mapping[str, int]],
    before: Mapping[str, Mapping[str, int]],
    available: Mapping[str, Collection[int]],
    *,
    allow_unavailable: bool,
) -> None:
    """Whether labels may move as a new config wants it; all three are by model.

    available: the versions that answer. allow_unavailable: a label that is new may name one that does not. Raises Refused.
    """
    for name, table in labels.items():
        for label, version in table.items():
            moved = before.get(name, {}).get(label, version) != version
            if version not in available.get(name, ()) and (moved or not allow_unavailable):
                raise Refused(
                    "FAILED_PRECONDITION",
                    f"Request to assign label to version {version} of model {name}, which is not currently available "
                    "for inference",
                )
