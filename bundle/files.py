"""Files that are whole at every moment: written atomically, exchanged as folders, read as JSON."""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from bundle import paths
from lib.errors import UserError


def exchange(fresh: Path, target: Path) -> None:
    """Move the folder `fresh` to `target`; what is there goes only when the new one is in place."""
    old = fresh.with_name(f"{fresh.name}.replaced")
    shutil.rmtree(old, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        target.rename(old)
    try:
        fresh.rename(target)
    except BaseException:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that always, also after a power cut, the old or the new one is whole."""
    temporary = path.with_name(path.name + ".writing")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_atomically(path, (json.dumps(value, indent=1) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`, {} where there is no file; UserError if it is damaged."""
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(
            f"{paths.shown(path)}: damaged ({error}); delete it and run again"
        ) from error


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
