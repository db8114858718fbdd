"""Commands of the bundle without the seconds in which Python imports PyTorch and the like.

``python -m tests.preloaded`` has imported the packages and forks a process for each command, as the
server of a run does for notebooks (bundle.runs.warm). That process has none of the modules of
`lib` or `bundle`: it takes those of the copy that a test made. The server of a run that it begins
is forked from it in turn. What Python or PyTorch read when they begin cannot be changed so.
"""

import atexit
import contextlib
import gc
import importlib
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import Any, NoReturn

from bundle.paths import ROOT
from bundle.runs import launch, warm

EARLY = ("PYTHON", "OMP_", "MKL_", "MPL", "MATPLOTLIB", "LD_")  # begins what is read only once
SERVER = [sys.executable, "-m", "bundle.runs.warm"]
# What commands import beside what notebooks do.
MORE = ("yaml", "filelock", "requests", "nbformat", "nbconvert", "rich.console")
LONGEST = 600  # seconds of a command
FORKED = ("bundle", "benchmarks.run", "try_the_card")  # modules that this can run
BEGUN = dict(os.environ)  # what the process that forks begins with


class Preloaded(launch.Server):
    """The process that forks, as a test sees it."""

    def run(
        self, arguments: tuple[str, ...], cwd: Path, environment: dict[str, str]
    ) -> subprocess.CompletedProcess:
        """Run ``python -m`` of these arguments to its end and return what it printed."""
        if not self.process:
            self._begin()
        with tempfile.TemporaryDirectory() as folder:
            streams = [f"{folder}/stdout", f"{folder}/stderr"]
            job = {"arguments": arguments, "cwd": str(cwd), "environment": environment}
            process = self._fork(job | {"streams": streams})
            assert process, "the process that forks has ended"
            try:
                code = process.wait(LONGEST)
            finally:
                process.kill()
            out, err = (Path(name).read_text() for name in streams)
        return subprocess.CompletedProcess(list(arguments), code, out, err)

    def _begin(self) -> None:
        quiet = {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}  # or the debugger of kernels would warn
        environment = BEGUN | quiet
        environment |= {"MPLBACKEND": launch.BACKEND, "MATPLOTLIBRC": os.devnull}
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "tests.preloaded"]
        with theirs:
            self.process = subprocess.Popen(
                command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, cwd=ROOT, env=environment
            )


def can_run(arguments: tuple[str, ...], environment: dict[str, str]) -> bool:
    """Whether a forked process runs the command as one of its own would."""
    changed = {name for name, _ in BEGUN.items() ^ environment.items()} - {"PYTHONPATH"}
    early = any(name.startswith(EARLY) for name in changed)
    return arguments[0] in FORKED and not early and launch.can_fork()


class _Popen(subprocess.Popen):
    """Fork the server of a run; start anything else.

    And start the server, too, once PyTorch has threads: what is forked would wait for them forever.
    """

    def __new__(cls, command: Any, *_: Any, **options: Any) -> Any:
        forks = command == SERVER and len([*Path("/proc/self/task").iterdir()]) == 1
        return _server(**options) if forks else super().__new__(cls)


def _server(stdin: int, cwd: Path, env: dict[str, str], **_: Any) -> launch.Process:
    if not (pid := os.fork()):
        os.setsid()
        os.dup2(stdin, 0)
        become(("bundle.runs.warm",), str(cwd), env, [os.devnull, os.devnull])

    def ended(seconds: float | None) -> int | None:
        done, status = os.waitpid(pid, 0 if seconds is None else os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if done else None

    return launch.Process(pid, ended)


def become(
    arguments: tuple[str, ...], cwd: str, environment: dict[str, str], streams: list[str]
) -> NoReturn:
    """Be ``python -m`` of these arguments, as far as a forked process can."""
    for number, name in enumerate(streams, 1):
        with Path(name).open("wb") as file:
            os.dup2(file.fileno(), number)
    os.closerange(3, 1024)  # sockets that show others the end of this process, locks
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    atexit._clear()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("bundle", "lib")]:
        del sys.modules[name]
    own = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [cwd, *own, *INSTALLED]
    importlib.invalidate_caches()
    module, *words = arguments
    sys.argv = ["-m", *words]
    os._exit(_ended(module))


def _ended(module: str) -> int:
    """Run a module to its end as Python does, what it wants done at its exit too."""
    code: Any = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        code = ended.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    return code


def main() -> None:
    """Import what commands and notebooks need, then fork a process for each command."""
    from bundle.runs.kernel import prepare

    prepare()
    for name in (*warm.PRELOADED, *MORE):
        importlib.import_module(name)
    gc.freeze()
    if job := warm.serve(socket.socket(fileno=0)):
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        subprocess.Popen = _Popen  # type: ignore[misc]
        become(tuple(job["arguments"]), job["cwd"], job["environment"], job["streams"])


INSTALLED = [path for path in sys.path if path not in ("", str(ROOT))]

if __name__ == "__main__":
    main()
