"""One process at a time for a run's results."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


class Failed(Exception):
    """Something failed or is busy; the message is the line to show. Exit code 1, bad input: 2."""


@contextmanager
def locked(folder: Path, name: str, wait_s: float = 0.0) -> Iterator[None]:
    """Hold a run's lock; the system gives it back however this process ends.

    Raises Failed where another process holds it, and still does after `wait_s` seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + wait_s
    with (folder / ".lock").open("w") as file:
        while not taken(file):
            if time.monotonic() >= end:
                raise Failed(
                    f"results/{name}: another make is working on this run; wait for it or stop it"
                )
            time.sleep(0.2)
        yield


def taken(file: IO[str]) -> bool:
    """Take the lock of an open file; False where another process, here or elsewhere, has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
