"""Start-up of the notebooks: seconds from starting a kernel to the end of its imports."""

import json
import subprocess
import time
from pathlib import Path

from benchmarks.timing import say, spread
from bundle import paths
from bundle.runs.params import notebooks

TIMEOUT_S = 120


def imports_of(notebook: Path) -> str:
    """Return the source of a notebook's cell with the imports: its first code cell."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return next("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def seconds_to_start(source: str) -> float:
    """Return the seconds that a new kernel needs until it has executed `source`."""
    from jupyter_client.manager import start_new_kernel

    started = time.perf_counter()
    # Where a kernel talks of its transport.
    options = {"cwd": str(paths.NOTEBOOKS), "stderr": subprocess.DEVNULL}
    manager, client = start_new_kernel(TIMEOUT_S, "python3", **options)
    try:
        reply = client.execute_interactive(source, timeout=TIMEOUT_S, store_history=False)
        taken = time.perf_counter() - started
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    if reply["content"]["status"] != "ok":
        raise RuntimeError(
            f"the imports failed: {reply['content']['ename']}: {reply['content']['evalue']}"
        )
    return taken


def measure(starts: int, count: int) -> dict[str, dict[str, float]]:
    """Return the seconds of `starts` starts of the first `count` notebooks; {} without Jupyter."""
    try:
        import jupyter_client  # noqa: F401
    except ImportError:
        say("  left out: jupyter_client is not installed here")
        return {}
    found = {}
    for name in notebooks()[:count]:
        source = imports_of(paths.NOTEBOOKS / f"{name}.ipynb")
        found[name] = spread([seconds_to_start(source) for _start in range(starts)])
        say(f"  {name}: {found[name]['median']:.1f} s")
    return found
