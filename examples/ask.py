"""Asks a server about handwritten digits, in every way that the client library has.

    edge demo                                      # in another terminal, or any server that has the model `digits`
    python examples/ask.py                         # http://localhost:8501
    python examples/ask.py unix:/run/edge/edge.sock
    python examples/ask.py --discover              # whoever on the local network has the model

Python is one with this project installed, such as `.uv/bin/uv run python`.
"""

from __future__ import annotations

import argparse
import asyncio
import io
from importlib.resources import files

import numpy as np
import numpy.typing as npt
from PIL import Image

from edge.client import AsyncClient, Client, ClientError

Pixels = npt.NDArray[np.int8]


def held_back() -> tuple[Pixels, npt.NDArray[np.uint8]]:
    """Digits that the model has never seen: int8 [n, 8, 8, 1] as it was quantized, and what they are."""
    with np.load(str(files("edge") / "data" / "digits" / "held_back.npz")) as data:
        return np.round(data["images"].reshape(-1, 8, 8, 1) / 16 * 255 - 128).astype(np.int8), data["labels"]


def ask(client: Client, pixels: Pixels, labels: npt.NDArray[np.uint8]) -> None:
    answer = client.predict("digits", pixels)
    right = (answer.only.argmax(-1) == labels).mean()
    print(f"version {answer.version} is right about {right:.0%} of {len(labels)} digits, all asked about at once")

    scores = client.predict("digits", (pixels[:1].astype(np.float32) + 128) / 255 * 16, dequantize=True).only
    print(f"as real numbers: {scores.max():.2f} for {scores.argmax()}")

    picture = io.BytesIO()
    grey = (pixels[0, :, :, 0].astype(np.int16) + 128).astype(np.uint8)
    Image.fromarray(grey).resize((64, 64), Image.Resampling.BOX).save(picture, "PNG")
    best = ", ".join(f"{choice.label} {choice.score:.2f}" for choice in client.classify("digits", picture.getvalue()))
    print(f"as a picture: {best}")

    try:
        client.predict("digits", np.zeros((1, 9, 9, 1), np.int8))
    except ClientError as error:
        print(f"{type(error).__name__}: {error}")


async def ask_many(url: str, pixels: Pixels) -> None:
    """One request for each digit, all under way together."""
    async with AsyncClient(url) as client:
        answers = await asyncio.gather(*(client.predict("digits", row[np.newaxis]) for row in pixels[:100]))
    print(
        f"{len(answers)} more, each in a request of its own: {answers[0].only.argmax()}, {answers[1].only.argmax()}, …"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Asks a server about handwritten digits.")
    parser.add_argument("url", nargs="?", default="http://localhost:8501")
    parser.add_argument("--discover", action="store_true", help="ask whoever on the local network has the model")
    parser.add_argument("--interface", action="append", default=[], help="look for them here only")
    options = parser.parse_args()
    pixels, labels = held_back()
    made = Client.discover(model="digits", interfaces=options.interface) if options.discover else Client(options.url)
    with made as client:
        print(f"{client.url} has {', '.join(sorted({model.name for model in client.models()}))}")
        ask(client, pixels, labels)
        asyncio.run(ask_many(client.url, pixels))


if __name__ == "__main__":
    main()
