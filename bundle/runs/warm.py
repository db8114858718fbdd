"""The server of a run: it imports the packages once and forks each notebook's process from itself.

``python -m bundle.runs.warm``, whose standard input is a local socket. The runner sends a job as
JSON and hears the number of its process, then its exit status: one packet each. That process forks
its kernel at once, before there is a thread, an event loop or a GPU. Neither holds a module of
`lib` or `bundle`: those are imported from their files, as they are then.

multiprocessing has such a server, too. It imports the runner's main module, and so `bundle`, into
every process; and once begun it outlives the run and keeps that run's environment.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from pathlib import Path

from bundle.runs.launch import LONGEST

# What notebooks import and what executes them: the packages of others alone, and none that starts a
# thread which must outlive a fork. Those of OpenBLAS end before one and begin again after it.
PRELOADED = (
    "torch", "torchvision.transforms.v2.functional", "pandas.io.formats.style", "scipy.ndimage",
    "sklearn.datasets", "sklearn.metrics", "matplotlib.pyplot", "safetensors.torch",
    "fontTools.subset", "ipykernel.kernelapp", "ipykernel.debugger", "papermill",
)  # fmt: skip
POLL_SECONDS = 0.1

status = 1  # with which a forked process ends, unless its work returns another


def serve(runner: socket.socket) -> dict | None:
    """Fork a process for each job of the runner, tell its number, and its exit status in the end.

    Returns None in the server when the runner is gone; in a forked process the job.
    """
    while packet := runner.recv(LONGEST):
        server, pid = os.getpid(), os.fork()
        if not pid:
            runner.detach()
            return json.loads(packet) | {"server": server}
        runner.send(b"%d" % pid)
        while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
            if select.select([runner], [], [], POLL_SECONDS)[0]:  # it sends nothing now: it is gone
                return None  # which the child notices
        runner.send(b"%d" % os.waitstatus_to_exitcode(ended[1]))
    return None


def notebook(job: dict) -> int:
    """Be a notebook's process: a session, streams and modules of its own, a kernel waiting.

    Or that of a command, which has no kernel.
    """
    os.setsid()
    with Path(os.devnull).open("rb") as null, Path(job["log"]).open("wb") as log:
        for theirs, own in ((null, 0), (log, 1), (log, 2)):
            os.dup2(theirs.fileno(), own)
    os.environ.update(job["more"])
    for name in [name for name in sys.modules if name.partition(".")[0] in ("bundle", "lib")]:
        del sys.modules[name]
    if "command" in job:
        return command(job["command"])
    reader, writer = os.pipe()
    if not (pid := os.fork()):
        os.close(writer)
        return kernel(reader)
    os.close(reader)
    from bundle.runs.kernel import main

    return main(job["job"], job["server"], {"child": pid, "pipe": writer})


def command(arguments: list[str]) -> int:
    """Be a command of the bundle, as Python's own -m would be; return its exit status."""
    sys.argv = ["bundle", *arguments]
    try:
        runpy.run_module("bundle", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def kernel(reader: int) -> int:
    """Be a kernel, once its command and its environment come through a pipe."""
    os.setsid()
    with os.fdopen(reader) as pipe:
        told = pipe.read()
    if not told:  # the notebook's process has ended
        return 1
    (_python, _option, module, *arguments), environment = json.loads(told)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


def main() -> int:
    """Import what notebooks need, then serve; the exit status of whichever process this becomes."""
    global status
    atexit.register(end, os.getpid())  # the first, so the last to be called
    from bundle.runs.kernel import prepare

    prepare()
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()  # or each process would look through all that it inherits: a second
    job = serve(socket.socket(fileno=0))
    status = notebook(job) if job else 0
    return status


def end(server: int) -> None:
    """End a forked process without taking apart all that it inherited: another half a second."""
    if os.getpid() != server:
        os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
