"""Execute one notebook with Papermill here: ``python -m bundle.runs.kernel JOB.json``.

A process of its own, so that an interrupted, killed or crashed notebook leaves the runner whole.
The exit status is only one of three conditions for success; see bundle.runs.execute.
"""

import json
import logging
import os
import platform
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path


def _leave_with_parent() -> None:
    """End this process when its parent is gone: a kernel without a runner would go on writing."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _private_transport(folder: str) -> dict:
    """Return kernel settings with local sockets: no open TCP port, no race of parallel starts."""
    from traitlets.config import Config

    if platform.system() not in ("Linux", "Darwin"):
        return {}
    return {"config": Config({"KernelManager": {"transport": "ipc", "ip": f"{folder}/k"}})}


def _prepare() -> None:
    """Spare the import of Papermill a second, and its log a warning that means nothing here."""
    # jsonschema compiles a grammar of web addresses at import where this is installed: a second for
    # each notebook, for a check that notebooks do not use. It does without where the import fails.
    sys.modules["rfc3987_syntax"] = None
    # A parameters cell names what one plays with; any other parameter is as welcome.
    logging.getLogger("papermill").addFilter(lambda record: "Passed unknown" not in str(record.msg))


def main(job_file: str) -> int:
    """Execute the job {notebook, output, parameters} and return the exit status."""
    _leave_with_parent()
    _prepare()
    import papermill

    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    short = "/tmp" if Path("/tmp").is_dir() else None  # socket paths are short
    folder = tempfile.mkdtemp(prefix="nb", dir=short)
    try:
        options = {"kernel_name": "python3", "progress_bar": False, **_private_transport(folder)}
        papermill.execute_notebook(job["notebook"], job["output"], job["parameters"], **options)
    except papermill.PapermillExecutionError:
        return 3  # the notebook itself tells cell and error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
