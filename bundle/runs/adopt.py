"""A finished training that another directory of the same run holds is not done again.

SET= of a value of a later notebook leads to a directory of its own; what is trained stays the same.
"""

import shutil
from pathlib import Path
from typing import Any

from bundle import files, paths
from bundle.fingerprint import of_file
from bundle.runs import status
from bundle.runs.params import RunParameters
from bundle.training import code, store

NODE = "03_train"


def take(parameters: RunParameters, folder: Path) -> str:
    """Copy into `folder`, results/RUN, a training of equal parameters, data and code.

    Returns the name of the run whose it was; "" where there is none, or where `folder` has its own.
    """
    complete = store.complete_folder(folder)
    if complete.exists() or store.partial_folder(folder).exists():
        return ""
    name = parameters.file
    others = sorted(paths.RESULTS.glob(f"{name}-*"))
    for source in (one for one in (paths.results(name), *others) if one != folder):
        saved, there = status.record_of(NODE, source), store.complete_folder(source)
        alike = saved.get("before") and _same(saved["before"], parameters)
        fresh = alike and not files.damaged(there) and not code.of_folder(there)
        if fresh and _copy(source, saved, complete):
            print(f"{NODE}: trained alike in results/{source.name}, taken from there", flush=True)
            return source.name
    return ""


def _same(before: dict[str, Any], parameters: RunParameters) -> bool:
    wanted = {**parameters.values[NODE], "run": before["parameters"].get("run")}
    return before["parameters"] == wanted and before["data"] == parameters.data


def _copy(source: Path, saved: dict[str, Any], complete: Path) -> bool:
    """Copy a training, whole or not at all; False where it is not what was recorded."""
    fresh = complete.with_name("training.taken")
    shutil.rmtree(fresh, ignore_errors=True)
    if not store.complete_folder(source).is_dir():
        return False
    shutil.copytree(store.complete_folder(source), fresh)  # with its times: it is not under way
    outputs = {Path(name): digest for name, digest in saved["outputs"].items()}
    written = {name: outputs[name] for name in outputs if name.parts[0] == "training"}
    if not written or any(of_file(fresh / name.name) != written[name] for name in written):
        shutil.rmtree(fresh)
        return False
    files.exchange(fresh, complete)
    return True
