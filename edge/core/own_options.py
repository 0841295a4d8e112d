"""A model's options, with what its version says of itself: `model.toml` in the version's directory."""

from __future__ import annotations

from edge.domain.errors import LoadError
from edge.domain.model_toml import MAX_MODEL_TOML_BYTES, MODEL_TOML, override_options
from edge.domain.models import Artifact, ModelOptions
from edge.files import open_regular


def own_options(artifact: Artifact, options: ModelOptions) -> ModelOptions:
    """Blocks. Raises LoadError."""
    path = artifact.file(MODEL_TOML)
    try:
        with open_regular(path) as file:
            return override_options(options, file.read(MAX_MODEL_TOML_BYTES + 1).decode())
    except FileNotFoundError:
        return options
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(f"{MODEL_TOML}: cannot be read: {error}") from None
