"""One process at a time for a run's results."""

import fcntl
from contextlib import contextmanager
from pathlib import Path


class Failed(Exception):
    """Something failed or is busy; the message is the one line to show. Exit code 1, bad input is 2."""


@contextmanager
def locked(folder: Path, name: str):
    """Hold a run's lock; the system gives it back however this process ends. Raises Failed where another holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Failed(
                f"results/{name}: another make run-all or make verify is working on this run; wait for it or stop it"
            ) from error
        yield
