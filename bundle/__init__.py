"""The machinery: runs, records, renders and releases what lib computes."""

from typing import Any

from bundle import interruption as interruption  # first: it acts when it is imported
from bundle import surroundings

surroundings.settle()


def __getattr__(name: str) -> Any:
    """Load what is handed on when it is asked for, so that the command line stays quick."""
    if name == "Notebook":
        from bundle.notebook import Notebook

        return Notebook
    if name == "load_released":
        from bundle.own.network import load_released

        return load_released
    raise AttributeError(f"module 'bundle' has no attribute {name!r}")
