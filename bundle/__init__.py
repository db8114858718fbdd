"""The machinery: runs, records, renders and releases what lib computes."""

from typing import Any

from bundle import interruption as interruption  # first: it acts when it is imported
from bundle import surroundings

surroundings.settle()


def __getattr__(name: str) -> Any:
    """Load `Notebook` when it is asked for, so that the command line stays quick."""
    if name != "Notebook":
        raise AttributeError(f"module 'bundle' has no attribute {name!r}")
    from bundle.notebook import Notebook

    return Notebook
