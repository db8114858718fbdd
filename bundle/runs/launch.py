"""How the runner starts a notebook's process: forked from the server of the run, or cold.

The server (bundle.runs.warm) has imported the packages once for all notebooks of a run. It starts
at the first notebook that runs, so that nothing is paid where all is up to date.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bundle import paths, surroundings

# What ipykernel sets for itself; in the server pyplot is imported first, and reads it.
BACKEND = "module://matplotlib_inline.backend_inline"
LONGEST = 1 << 16  # bytes of a packet between runner and server


class Process:
    """A forked process as subprocess.Popen shows one.

    ended: waits for so many seconds, without end for None, and returns the exit status or None.
    """

    stdin = stdout = stderr = None
    returncode: int | None = None

    def __init__(self, pid: int, ended: Callable[[float | None], int | None]):
        self.pid, self.ended = pid, ended

    def poll(self) -> int | None:
        """Return the exit status as Popen does, None before the end."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, so many seconds at most; raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            self.returncode = self.ended(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask the process to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process."""
        self.send_signal(signal.SIGKILL)


Started = Process | subprocess.Popen
Start = Callable[[Path, Path, dict[str, str]], Started]


def cold(job: Path, log: Path, more: dict[str, str]) -> subprocess.Popen:
    """Start a notebook's process that imports everything itself, as it can on any system.

    Args:
        job: what bundle.runs.kernel executes.
        log: takes what the process prints.
        more: variables of its environment.
    """
    command = [sys.executable, "-m", "bundle.runs.kernel", str(job)]
    options: dict[str, Any] = {"cwd": paths.NOTEBOOKS, "env": surroundings.child(**more)}
    with log.open("w") as file:
        options |= {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": file}
        return subprocess.Popen(command, start_new_session=True, **options)


def can_fork() -> bool:
    """Whether notebooks can be forked: on Linux, unless Matplotlib needs a folder for each.

    Elsewhere a process whose packages have begun must not fork.
    """
    return sys.platform == "linux" and "MPLCONFIGDIR" not in surroundings.kernel("")


class Server:
    """The server of a run as its runner sees it; `with` it, so that it ends with the run."""

    process: subprocess.Popen | None = None
    channel: socket.socket

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.channel.close()

    def start(self, job: Path, log: Path, more: dict[str, str]) -> Started:
        """Start a notebook's process as `cold` does, forked where that can be."""
        if not can_fork():
            return cold(job, log, more)
        if not self.process:
            self._begin()
        forked = self._fork({"job": str(job), "log": str(log), "more": more})
        return forked or cold(job, log, more)

    def command(self, *arguments: str) -> int:
        """Run a command of the bundle in a process forked from the server, silent; return its code.

        1 where there is no server, or where it is gone.
        """
        asked = {"command": arguments, "log": os.devnull, "more": {}}
        forked = self._fork(asked) if self.process else None
        return forked.wait() if forked else 1

    def _begin(self) -> None:
        environment = surroundings.child(PYTHONUNBUFFERED="1", MPLBACKEND=BACKEND)
        environment["MATPLOTLIBRC"] = surroundings.kernel("")["MATPLOTLIBRC"]
        options: dict[str, Any] = {"cwd": paths.NOTEBOOKS, "env": environment}
        options |= {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        options["start_new_session"] = True
        command = [sys.executable, "-m", "bundle.runs.warm"]
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(command, stdin=theirs.fileno(), **options)

    def _fork(self, job: dict) -> Process | None:
        """Return the server's child for a job, none where it is gone or did not start."""
        told = b""
        with contextlib.suppress(OSError):
            self.channel.send(json.dumps(job).encode())
            told = self.channel.recv(LONGEST)
        return (
            Process(pid := int(told), lambda seconds: self._ended(pid, seconds)) if told else None
        )

    def _ended(self, pid: int, timeout: float | None) -> int | None:
        """Return the exit status of the server's child; kill it where the server is gone."""
        if not select.select([self.channel], [], [], timeout)[0]:
            return None
        with contextlib.suppress(OSError):
            if told := self.channel.recv(LONGEST):
                return int(told)
            os.kill(pid, signal.SIGKILL)
        return -signal.SIGKILL
