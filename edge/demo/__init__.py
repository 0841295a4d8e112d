"""`edge demo`."""

from edge.demo.story import run_demo

__all__ = ["run_demo"]
