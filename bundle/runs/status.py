"""Whether a notebook's result is up to date, by content: a clone's file times mean nothing."""

import json
import os
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bundle import fingerprint, paths
from bundle.files import Damaged, damaged, intact, read_json, remedy, seal, sums, write_json
from bundle.fingerprint import differences, of_file
from bundle.runs.graph import Node, nodes
from bundle.runs.params import RunParameters, files_in
from bundle.training import alike

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
        "files": _files_named(parameters.values[node.name]) | _shared(node) | _optional(node),
        "variables": {name: os.environ.get(name, "") for name in node.variables},
    }


def reasons(node: Node, parameters: RunParameters, folder: Path) -> list[str]:
    """Return why a notebook has to run, one phrase each; an empty list where it is up to date."""
    if not intact(_record(node.name, folder)):
        return [f"fingerprints/{node.name}.json was changed"]
    saved = record_of(node.name, folder)
    if not saved.get("before"):
        failed = (folder / "failed" / f"{node.name}.ipynb").exists()
        return ["failed at the last try"] if failed else ["not run yet"]
    phrases, before, now = [], saved["before"], fingerprint_of(node, parameters, folder)
    phrases += [label for key, label in WHOLE.items() if before.get(key) != now[key]]
    for key in ("parameters", "code", "inputs", "files", "variables"):
        phrases += differences(before.get(key) or {}, now[key])
    phrases = [phrase if "->" in phrase else f"{phrase} changed" for phrase in phrases]
    for name in changed_outputs(node.name, folder):
        phrases.append(f"{name} is gone (an earlier notebook ran again) or was changed")
    if "training/state.json" in node.writes:
        phrases += alike.newer(folder, parameters.settings(node.name))
    return phrases


def changed_outputs(name: str, folder: Path) -> list[str]:
    """Return which of the files that notebook `name` left are gone or have other content now."""
    digests = record_of(name, folder).get("outputs", {})
    return [file for file, was in digests.items() if of_file(paths.artefact(folder, file)) != was]


def changed(folder: Path) -> list[Path]:
    """Return the files of a run, and of its training, that are not as they were written."""
    names = [path.stem for path in sorted((folder / "fingerprints").glob("*.json"))]
    outputs = [folder / file for name in names for file in changed_outputs(name, folder)]
    return [*damaged(folder), *damaged(folder / "training"), *outputs]


def record_of(name: str, folder: Path) -> dict[str, Any]:
    """Return what is recorded of notebook `name`: before, outputs; {} without, or a damaged one."""
    try:
        record = read_json(_record(name, folder))
    except Damaged:
        return {}
    return record if all(isinstance(record.get(key), dict) for key in ("before", "outputs")) else {}


def remember(
    node: Node, folder: Path, before: dict[str, Any], outputs: list[str], seconds: float
) -> None:
    """Record that a notebook's result is complete: what it was made from, its files, its time.

    What its last record listed and this one does not, it left in an earlier state: that goes.
    """
    names = [*outputs, *(name for name in node.writes if name not in outputs)]
    sweep(node.name, folder, names)
    digests = {name: of_file(paths.artefact(folder, name)) for name in names}
    made = {"before": before, "outputs": digests, "seconds": round(seconds, 1)}
    _write(node.name, folder, made)
    seal(folder, *read_back(names))


def forget(node: Node, folder: Path, written: list[str]) -> None:
    """Make the record void before the result is replaced: after a crash the notebook runs again.

    It keeps the names of the files, the old and those about to be `written`, for a later sweep.
    """
    old = record_of(node.name, folder)
    outputs = {**old.get("outputs", {}), **dict.fromkeys(written, "")}
    _write(node.name, folder, {**old, "before": {}, "outputs": outputs})


def sweep(name: str, folder: Path, kept: list[str]) -> None:
    """Delete the files below results/RUN that notebook `name` left and that are none of `kept`."""
    records = [path.stem for path in _record(name, folder).parent.glob("*.json")]
    others = (record_of(other, folder).get("outputs", {}) for other in records if other != name)
    known = {*kept, *(file for outputs in others for file in outputs)}
    for file in record_of(name, folder).get("outputs", {}).keys() - known:
        path = (folder / file).resolve()
        if path.is_relative_to(folder.resolve()) and path.is_file():
            path.unlink()


def sweep_absent(folder: Path) -> None:
    """Delete what notebooks that are no more left below results/RUN, their pages and records."""
    known = [node.name for node in nodes()]
    for path in (folder / "fingerprints").glob("*.json"):
        if path.stem not in known:
            sweep(path.stem, folder, [])
            path.unlink()
            (folder / f"{path.stem}.html").unlink(missing_ok=True)


def settle(folder: Path) -> None:
    """Leave a run whose notebooks are done with their files alone, all of them sealed."""
    sweep_absent(folder)
    for cut_off in folder.rglob("*.writing"):  # by a kill
        cut_off.unlink(missing_ok=True)
    seal_results(folder)


def seal_results(folder: Path) -> None:
    """Seal what notebooks left that has no seal: it is older, or the manifest was damaged."""
    for record in sorted((folder / "fingerprints").glob("*.json")):
        outputs = record_of(record.stem, folder).get("outputs", {})
        left = [f"fingerprints/{record.name}", *outputs]
        sound = {*left} - {*changed_outputs(record.stem, folder)}
        trained = {name for name in sound if name.startswith("training/")}
        for place, names in (
            (folder, read_back(sound)),
            (folder / "training", [name.removeprefix("training/") for name in trained]),
        ):
            known = sums(place)
            if fresh := [name for name in names if name not in known and (place / name).is_file()]:
                seal(place, *fresh)


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
    folder, rows, upstream = paths.results(parameters.name), [], set[str]()
    for node in nodes():
        phrases = reasons(node, parameters, folder)
        waits = sorted(upstream & set(node.reads))
        if not phrases and waits:
            phrases = [f"reads {waits[0]}, which is about to change"]
        if phrases:
            upstream |= {*node.writes, node.metrics}
        rows.append((node, phrases))
    return rows


def report(parameters: RunParameters, rows: Iterable[tuple[Node, list[str]]]) -> str:
    """Return one line a notebook (a row of `waiting`), and one a damaged file."""
    lines = [f"{node.name:16} {'; '.join(why[:6]) or 'up to date'}" for node, why in rows]
    folder = paths.results(parameters.name)
    for path in (*damaged(folder), *damaged(folder / "training")):
        lines.append(f"{paths.shown(path)}: not as it was written; {remedy(path)}")
    return "\n".join(lines)


def _record(name: str, folder: Path) -> Path:
    return folder / "fingerprints" / f"{name}.json"


def _write(name: str, folder: Path, record: dict[str, Any]) -> None:
    """Write a notebook's record and seal it; a kill in between leaves it without a seal."""
    path, sealed = _record(name, folder), f"fingerprints/{name}.json"
    path.parent.mkdir(exist_ok=True)
    seal(folder, void=sealed)
    write_json(path, record)
    seal(folder, sealed)


def read_back(outputs: Iterable[str]) -> list[str]:
    """Return which of a notebook's files others read; a training has a manifest of its own."""
    return [name for name in outputs if not name.startswith(("figures/", "tables/", "training/"))]


def _shared(node: Node) -> dict[str, str]:
    """Return the hashes of the bundle's files a notebook reads; a name with a star is a pattern."""
    files = [
        file
        for name in node.shared
        for file in (sorted(paths.ROOT.glob(name)) if "*" in name else [paths.ROOT / name])
    ]
    return {file.relative_to(paths.ROOT).as_posix(): of_file(file) for file in files}


def _optional(node: Node) -> dict[str, str]:
    """Return whether the packages are here that a notebook uses only then."""
    return {
        f"the package {name}": "installed" if find_spec(name) else "missing"
        for name in node.optional
    }


def _files_named(values: dict[str, Any]) -> dict[str, str]:
    """Return the hashes of files that parameters name, and of those in the folder own_images."""
    named = {key: paths.named(value) for key, value in files_in(values).items()}
    if own := values.get("own_images"):
        inside = [path for path in paths.named(own).glob("*") if path.is_file()]
        named |= {f"own_images/{path.name}": path for path in inside}
    return {key: of_file(path) for key, path in named.items()}
