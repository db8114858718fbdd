"""Files that are whole at every moment: written atomically, exchanged as folders, read as JSON."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

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
def held(
    path: Path, wait_s: float, busy: Exception, waiting: Callable[[], object] = lambda: None
) -> Iterator[None]:
    """Hold the lock file `path`; the system gives it back however this process ends.

    Where another process has it, calls `waiting`, and raises `busy` after `wait_s` seconds.
    """
    from filelock import FileLock, Timeout  # late: most commands lock nothing

    # No soft lock where a file system has no locks: a killed process would leave it behind.
    lock = FileLock(path, fallback_to_soft=False)
    try:
        try:
            holder = lock.acquire(timeout=0)
        except Timeout:
            waiting()
            holder = lock.acquire(timeout=max(wait_s, 0))
    except Timeout:
        raise busy from None
    with holder:
        yield


def locked(folder: Path, name: str, wait_s: float = 0.0) -> AbstractContextManager[None]:
    """Hold a run's lock; Failed where another process still has it after `wait_s` seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    busy = f"results/{name}: another make is working on this run; wait for it or stop it"
    return held(folder / ".lock", wait_s, Failed(busy))
