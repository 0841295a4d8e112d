"""HTTP/1.1: TensorFlow Serving's REST API, the Open Inference Protocol v2, and what people and probes look at."""
