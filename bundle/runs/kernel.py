"""Execute one notebook with Papermill here: ``python -m bundle.runs.kernel JOB.json``.

A process of its own, so that an interrupted, killed or crashed notebook leaves the runner whole.
The exit status is only one of three conditions for success; see bundle.runs.execute.
"""

import contextlib
import json
import logging
import os
import platform
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from bundle import surroundings

LONGEST_SOCKET = 100  # characters of a local socket's path: 107 on Linux, 103 on macOS


def _leave_with_parent(folder: str, parent: int) -> None:
    """End this process when its parent is gone: a kernel without a runner would go on writing."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _own_folder() -> Iterator[str]:
    """Give a folder for sockets, key and profile of the kernel, with a short path if it can be."""
    short = "/tmp" if os.access("/tmp", os.W_OK | os.X_OK) else None
    folder = tempfile.mkdtemp(prefix="nb", dir=short)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _manager(folder: str, forked: dict[str, int] | None) -> dict:
    """Return options of nbclient: this Python as the kernel, whatever kernel is installed.

    Local sockets leave no TCP port open and let no parallel starts race for one. A kernel that is
    `forked` already is taken in place of a new process.
    """
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from traitlets.config import Config

    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    settings = surroundings.kernel(folder)
    own = KernelSpec(argv=command, env=settings, display_name="Python 3", language="python")
    if forked:
        from bundle.runs import provisioner

        own.metadata = provisioner.stanza(forked)

    class Kernel(AsyncKernelManager):
        kernel_spec = own

    sockets, options = f"{folder}/k", {"connection_file": f"{folder}/kernel.json"}
    if platform.system() in ("Linux", "Darwin") and len(sockets) < LONGEST_SOCKET:
        options |= {"transport": "ipc", "ip": sockets}
    return {"kernel_manager_class": Kernel, "config": Config({"KernelManager": options})}


def prepare() -> None:
    """Spare the import of Papermill seconds, and its log a warning that means nothing here."""
    surroundings.without_grammar()
    # A parameters cell names what one plays with; any other parameter is as welcome.
    logging.getLogger("papermill").addFilter(lambda record: "Passed unknown" not in str(record.msg))


def _literal(path: str) -> str:
    """Return a path as Papermill takes it, which fills parameters into braces."""
    return path.replace("{", "{{").replace("}", "}}")


def main(job_file: str, parent: int = 0, forked: dict[str, int] | None = None) -> int:
    """Execute the job {notebook, output, parameters} and return the exit status.

    Args:
        job_file: where the job stands, as JSON.
        parent: the process without which this one ends; by default that which started it.
        forked: the kernel where it waits already, see bundle.runs.warm.
    """
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    with _own_folder() as folder:
        _leave_with_parent(folder, parent or os.getppid())
        prepare()
        import papermill

        job = json.loads(Path(job_file).read_text(encoding="utf-8"))
        options = {"kernel_name": "python3", "progress_bar": False, **_manager(folder, forked)}
        notebook, output = _literal(job["notebook"]), _literal(job["output"])
        try:
            papermill.execute_notebook(notebook, output, job["parameters"], **options)
        except papermill.PapermillExecutionError:
            return 3  # the notebook itself tells cell and error
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
