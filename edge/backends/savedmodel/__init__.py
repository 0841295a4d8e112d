"""SavedModels of TensorFlow 1 and 2 and Keras 3, each version in a worker process of its own."""

from edge.backends.savedmodel.backend import SavedModelBackend

__all__ = ["SavedModelBackend"]
