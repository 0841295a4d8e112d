"""Ports and pages: I/O only; bytes become tensors in `edge.wire`, and answers come from a `Predictor`."""
