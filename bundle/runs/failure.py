"""One line about a notebook that failed: cell, error, where the copy lies, what to do."""

import re
import shutil
from pathlib import Path

from bundle import paths
from bundle.runs.status import cell_state, read_cells

ADDED = {"injected-parameters", "papermill-error-cell-tag"}  # cells that Papermill put in
FULL_BYTES = 2**20  # free space below which a failure is blamed on the disk
LONGEST = 300  # characters of an error message; the failed copy has all of it


def explain(name: str, output: Path, problem: str, folder: Path, command: str) -> str:
    """Return the line for a failed notebook, from its executed copy under results/RUN/failed/."""
    copy = folder / "failed" / output.name
    where, what = _failed_cell(copy) if copy.is_file() else ("", "")
    kept = f"; failed copy: {paths.shown(copy)}" if copy.is_file() else ""
    what = what or _last_line(folder / "failed" / f"{name}.log") or problem
    if shutil.disk_usage(folder).free < FULL_BYTES:
        what = f"no space left on the disk of {paths.shown(folder)} ({what})"
    return f"{name}{where}: {what}{kept}; try again: {command}"


def _failed_cell(copy: Path) -> tuple[str, str]:
    """Return (", cell N", "Error: message"); N counts the committed notebook's cells from 1."""
    cells = [cell for cell in read_cells(copy) if not ADDED & set(cell["metadata"].get("tags", []))]
    for number, cell in enumerate(cells, 1):
        for output in cell.get("outputs", []):
            if output["output_type"] == "error":
                message = _one_line("".join(output["evalue"]))
                return f", cell {number}", f"{output['ename']}: {message}"
    # A dying kernel may have told its execution count or not: its cell is the last that was begun.
    code = [(number, cell) for number, cell in enumerate(cells, 1) if cell["cell_type"] == "code"]
    begun = [number for number, cell in code if cell_state(cell) != "pending"]
    if not begun:
        return "", ""
    return f", cell {begun[-1]}", "its kernel was killed or ended (out of memory?)"


def _one_line(message: str) -> str:
    """Return a message without colours and line breaks, cut where it is long."""
    plain = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", message).split())
    return plain if len(plain) <= LONGEST else plain[: LONGEST - 2].rstrip() + " …"


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
