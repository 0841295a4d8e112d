"""A version's own options: what it may say, and how it is told that it may not."""

from __future__ import annotations

import pytest

from edge.domain.errors import LoadError
from edge.domain.model_toml import MAX_MODEL_TOML_BYTES, override_options
from edge.domain.models import ImageOptions, ModelOptions


def test_a_version_overrides_what_it_names_and_nothing_else() -> None:
    options = ModelOptions(device="usb:0", lane="thread", image=ImageOptions(resize="pad", std=2))
    text = 'dequantize = true\nmax_batch = 4\n[image]\nchannels = "bgr"\nmean = 127.5\n'
    assert override_options(options, text) == ModelOptions(
        device="usb:0",
        lane="thread",
        dequantize=True,
        max_batch=4,
        image=ImageOptions(resize="pad", channels="bgr", mean=127.5, std=2),
    )


def test_an_empty_file_changes_nothing() -> None:
    assert override_options(ModelOptions(), "# nothing\n") == ModelOptions()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("device = 'usb:0'", "device: no such key; want dequantize, lane, max_batch"),
        ("lane = 'fast'", "lane: want 'auto' or 'inline' or 'thread', got 'fast'"),
        ("dequantize = 1", "dequantize: want true or false, got 1"),
        ("max_batch = true", "max_batch: want an integer from 0 to 65536, got True"),
        ("max_batch = -1", "max_batch: want an integer from 0 to 65536, got -1"),
        ("image = 3", "image: want a table, got 3"),
        ("[image]\nresize = 'zoom'", "image.resize: want 'stretch' or 'crop' or 'pad', got 'zoom'"),
        ("[image]\nsize = 3", "image.size: no such key; want resize, resample, channels, mean, std"),
        ("[image]\nlane = 'auto'", "image.lane: no such key"),
        ("'image.lane' = 'auto'", "image.lane: no such key"),
        ("'image.std' = 2", "image.std: no such key"),
        ("[image]\nmean = '1'", "image.mean: want a number, got '1'"),
        ("[image]\nmean = nan", "image.mean: want a number, got nan"),
        ("[image]\nstd = 0", "image.std: want a number other than 0"),
        ("[image]\nstd = 0.0", "image.std: want a number other than 0"),
        ("lane = [", "model.toml: "),
        ("dequantize" + ".a" * 2_000 + " = 1", "dequantize: want true or false, got a value of type dict"),
        ("max_batch = 0x" + "f" * 6_000, "max_batch: want an integer from 0 to 65536, got a value of type int"),
        ("max_batch = " + "9" * 5_000, "model.toml: "),
        (f"lane = '{'x' * 5_000}'", "'auto' or 'inline' or 'thread', got 'xxx"),
        ("a = " + "[" * 50_000, "model.toml: "),
        ("#" * (MAX_MODEL_TOML_BYTES + 1), "want at most 65536 characters, got 65537"),
    ],
)
def test_what_a_version_may_not_say_is_named(text: str, words: str) -> None:
    with pytest.raises(LoadError) as caught:
        override_options(ModelOptions(), text)
    assert words in str(caught.value)
    assert str(caught.value).startswith("model.toml: ")
