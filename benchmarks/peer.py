"""What somebody writes by hand: a SavedModel behind FastAPI. `python -m benchmarks.peer DIR` prints its port, and serves.

The answer is TensorFlow Serving's JSON. Runs are in Starlette's threads, so that the event loop goes on; uvicorn runs on
uvloop and httptools, one process, as TensorFlow's threads take the cores.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

import numpy as np
import tensorflow as tf
import uvicorn
from fastapi import FastAPI


def app(path: str) -> Any:
    loaded = tf.saved_model.load(path)
    signature = loaded.signatures["serving_default"]
    made = FastAPI()

    def predict(body: dict[str, Any]) -> dict[str, Any]:
        answer = signature(image=tf.constant(np.array(body["instances"], np.uint8)))
        return {"predictions": answer["best"].numpy().tolist()}

    made.post("/predict")(predict)
    made.state.loaded = loaded  # a signature does not keep its variables
    return made


def main() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        served = app(sys.argv[1])
        taken.listen(128)
        print(taken.getsockname()[1], flush=True)
        server = uvicorn.Server(uvicorn.Config(served, log_level="error", loop="uvloop", http="httptools"))
        server.run(sockets=[taken])


if __name__ == "__main__":
    main()
