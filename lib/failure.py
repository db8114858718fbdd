"""One line about a notebook that failed: cell, error, where the copy lies, what to do."""

from pathlib import Path

import nbformat

from lib import paths


def explain(name: str, output: Path, problem: str, folder: Path, command: str) -> str:
    """Return the line for a failed notebook, from its executed copy under results/RUN/failed/."""
    copy = folder / "failed" / output.name
    where, what = _failed_cell(copy) if copy.is_file() else ("", "")
    kept = f"; failed copy: {paths.shown(copy)}" if copy.is_file() else ""
    log = folder / "failed" / f"{name}.log"
    if not what:
        what = _last_line(log) or problem
    return f"{name}{where}: {what}{kept}; try again: {command}"


def _failed_cell(copy: Path) -> tuple[str, str]:
    """Return (", cell N", "Error: message"); numbers count all cells from 1, as JupyterLab shows them in order."""
    cells = nbformat.read(copy, as_version=4).cells
    for number, cell in enumerate(cells, 1):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                message = " ".join(output.evalue.split())
                return f", cell {number}", f"{output.ename}: {message}"
    states = [cell.metadata.get("papermill", {}).get("status") for cell in cells]
    running = [number for number, state in enumerate(states, 1) if state in ("running", "failed")]
    if running:
        return f", cell {running[0]}", "its kernel was killed or died (out of memory?)"
    return "", ""


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()] if log.is_file() else []
    return next((line for line in reversed(lines) if line), "")
