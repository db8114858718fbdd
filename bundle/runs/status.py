"""Whether a notebook's result is up to date, by content: a clone's file times mean nothing."""

import json
from pathlib import Path
from typing import Any

from bundle import fingerprint, paths
from bundle.files import read_json, write_json
from bundle.fingerprint import differences, of_file
from bundle.runs.graph import Node, nodes
from bundle.runs.params import RunParameters, files_in
from bundle.training import released

WHOLE = {"notebook": "the notebook", "packages": "requirements.txt", "data": "the data"}


def fingerprint_of(node: Node, parameters: RunParameters, folder: Path) -> dict[str, Any]:
    """Return all that a notebook's result depends on, as plain values and hashes."""
    return {
        "notebook": fingerprint.of_value(node.cells),
        "parameters": parameters.values[node.name],
        "code": node.code(),
        "packages": of_file(paths.LOCK_FILE),
        "data": parameters.data,
        "inputs": {name: of_file(paths.artefact(folder, name)) for name in node.reads},
        "files": _files_named(parameters.values[node.name]) | _shared(node),
    }


def reasons(node: Node, parameters: RunParameters, folder: Path) -> list[str]:
    """Return why a notebook has to run, one phrase each; an empty list where it is up to date."""
    saved = read_json(record(node, folder))
    if not saved:
        failed = (folder / "failed" / f"{node.name}.ipynb").exists()
        return ["failed at the last try"] if failed else ["not run yet"]
    phrases, before, now = [], saved["before"], fingerprint_of(node, parameters, folder)
    phrases += [label for key, label in WHOLE.items() if before[key] != now[key]]
    for key in ("parameters", "code", "inputs", "files"):
        phrases += differences(before[key], now[key])
    phrases = [phrase if "->" in phrase else f"{phrase} changed" for phrase in phrases]
    for name, digest in saved["outputs"].items():
        if of_file(paths.artefact(folder, name)) != digest:
            phrases.append(f"{name} is gone (an earlier notebook ran again) or was changed")
    if "training/state.json" in node.writes:
        phrases += released.newer(folder, parameters.settings(node.name))
    return phrases


def remember(
    node: Node, folder: Path, before: dict[str, Any], outputs: list[str], seconds: float
) -> None:
    """Record that a notebook's result is complete: what it was made from, its files, its time."""
    names = [*outputs, *(name for name in node.writes if name not in outputs)]
    digests = {name: of_file(paths.artefact(folder, name)) for name in names}
    path = record(node, folder)
    path.parent.mkdir(exist_ok=True)
    write_json(path, {"before": before, "outputs": digests, "seconds": round(seconds, 1)})


def forget(node: Node, folder: Path) -> None:
    """Take the record away before the result is replaced: after a crash it is run again."""
    record(node, folder).unlink(missing_ok=True)


def unfinished(output: Path, code: int) -> str:
    """Return what speaks against success in exit status and executed notebook, or "".

    Papermill's own word is not taken for it: after a killed kernel the metadata says "completed".
    """
    if code:
        return f"its process ended with status {code}"
    states = cell_states(output)
    pending = sum(state != "completed" for state in states)
    return f"{pending} of its cells did not complete" if pending or not states else ""


def never_started(output: Path) -> bool:
    """Whether the notebook's process ended before any cell began: the kernel died at its start."""
    if not output.is_file():
        return True
    states = cell_states(output)
    return bool(states) and all(state == "pending" for state in states)


def cell_states(executed: Path) -> list[str]:
    """Return each filled code cell's state (pending, broken, completed), [] for a cut-off file.

    When the kernel dies, Papermill calls all cells completed; those it never began have no start
    time, and the one it died in mostly has no execution count.
    """
    code = (cell for cell in read_cells(executed) if cell["cell_type"] == "code")
    return [cell_state(cell) for cell in code if "".join(cell["source"]).strip()]


def read_cells(executed: Path) -> list[dict[str, Any]]:
    """Return the cells of an executed notebook, [] where the file was cut off (a full disk)."""
    try:
        return json.loads(executed.read_text(encoding="utf-8"))["cells"]
    except ValueError:
        return []


def cell_state(cell: dict[str, Any]) -> str:
    """Return the state of one executed code cell."""
    record = cell["metadata"].get("papermill", {})
    if not record.get("start_time"):
        return "pending"
    return "completed" if record["status"] == "completed" and cell["execution_count"] else "broken"


def waiting(parameters: RunParameters) -> list[tuple[Node, list[str]]]:
    """Return each notebook with why it has to run, none where it and what it reads is as it was."""
    folder, rows, upstream = paths.results(parameters.name), [], set()
    for node in nodes():
        phrases = reasons(node, parameters, folder)
        waits = sorted(upstream & set(node.reads))
        if not phrases and waits:
            phrases = [f"reads {waits[0]}, which is about to change"]
        if phrases:
            upstream |= {*node.writes, node.metrics}
        rows.append((node, phrases))
    return rows


def report(parameters: RunParameters) -> str:
    """Return one line a notebook: up to date, or what changed."""
    lines = [(node.name, "; ".join(phrases[:6])) for node, phrases in waiting(parameters)]
    return "\n".join(f"{name:16} {told or 'up to date'}" for name, told in lines)


def record(node: Node, folder: Path) -> Path:
    """Return where it is recorded what a notebook's result was made from."""
    return folder / "fingerprints" / f"{node.name}.json"


def _shared(node: Node) -> dict[str, str]:
    """Return the hashes of the bundle's files a notebook reads; a name with a star is a pattern."""
    files = [
        file
        for name in node.shared
        for file in (sorted(paths.ROOT.glob(name)) if "*" in name else [paths.ROOT / name])
    ]
    return {file.relative_to(paths.ROOT).as_posix(): of_file(file) for file in files}


def _files_named(values: dict[str, Any]) -> dict[str, str]:
    """Return the hashes of files that parameters name: those whose key ends in _set or _file."""
    return {key: of_file(paths.named(value)) for key, value in files_in(values).items()}
