"""gRPC: TensorFlow Serving's services, the Open Inference Protocol v2, and health. Imported only where it is configured."""
