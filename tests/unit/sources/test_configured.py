"""Which sources a new configuration leaves alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge.config import Config, load_config
from edge.sources.configured import unchanged


@dataclass
class Written:
    file: Path

    def goes_on(self, more: str) -> set[bool]:
        """Whether the model's source does when `more` is added to its table, and when it is taken away."""
        without, with_it = self._config(""), self._config(more)
        return {"m" in unchanged(without, with_it), "m" in unchanged(with_it, without)}

    def _config(self, more: str) -> Config:
        self.file.write_text(f'[models.m]\npath = "m"\n{more}\n')
        return load_config(self.file)


def test_weights_and_a_shadow_leave_the_source_alone_and_what_says_which_versions_are_there_does_not(
    tmp_path: Path,
) -> None:
    written = Written(tmp_path / "edge.toml")
    for more in (
        "weights = { 1 = 1 }",
        'sticky_header = "x"',
        'shadow = "2"\nshadow_share = 0.5\nshadow_atol = 1.0\nshadow_rtol = 1.0',
    ):
        assert written.goes_on(more) == {True}, more
    for more in ('policy = "all"', "labels = { stable = 1 }"):
        assert written.goes_on(more) == {False}, more
