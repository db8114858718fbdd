"""Where things are. Every other module asks here: a notebook works from any working directory."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
PARAMS = ROOT / "params"
DATA = ROOT / "data"
# Set where a run's record is taken for a run: another folder than results/.
RESULTS_VARIABLE = "BUNDLE_RESULTS"
RESULTS = Path(os.environ.get(RESULTS_VARIABLE) or ROOT / "results")
LOCK_FILE = ROOT / "requirements.txt"
# Set by the headless runner: where a notebook's new files wait for success.
STAGE_VARIABLE = "BUNDLE_STAGE"
# Set by the headless runner: train again although a finished training is there.
RETRAIN_VARIABLE = "BUNDLE_RETRAIN"  # by which the runner asks a notebook to train again

# Of a folder of results/, or of a released run there.
RUN_NAME, LONGEST_NAME = r"(released/)?[A-Za-z0-9][A-Za-z0-9_.-]*", 200

# What serves where a run's file is absent.
STAND_INS = {"training/weights.pt": "training/logits.npz"}


@contextmanager
def results_in(folder: Path) -> Iterator[None]:
    """Take `folder` for results/, here and in the processes that start meanwhile."""
    global RESULTS
    before, RESULTS = RESULTS, folder.resolve()
    os.environ[RESULTS_VARIABLE] = str(RESULTS)
    try:
        yield
    finally:
        RESULTS = before
        del os.environ[RESULTS_VARIABLE]


def results(run: str) -> Path:
    """Return the directory of the finished artefacts of `run` (it need not exist)."""
    return RESULTS / run


def artefact(folder: Path, name: str) -> Path:
    """Return the path of a run's file `name`, or of its stand-in where that alone is there."""
    path, stand_in = folder / name, folder / STAND_INS.get(name, name)
    return stand_in if stand_in.exists() and not path.exists() else path


def outputs(run: str) -> Path:
    """Return where a notebook writes to: the runner's stage when headless, else results/RUN."""
    stage = os.environ.get(STAGE_VARIABLE)
    folder = Path(stage) if stage else results(run)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def shown(path: Path) -> str:
    """Return `path` relative to the bundle where it lies in it: for messages, not identity."""
    # As it is named, then where it leads; resolve() fails for a link that leads to itself.
    for known in (Path(os.path.abspath(path)), Path(os.path.realpath(path))):  # noqa: PTH100
        if known.is_relative_to(ROOT):
            return str(known.relative_to(ROOT))
    return os.path.abspath(path)  # noqa: PTH100


def named(text: str) -> Path:
    """Return the file or folder that a parameter or a variable names.

    A relative path counts from the bundle, since notebooks run in a folder of their own; `~` is the
    user's home. Raises UserError for a text that no path can be.
    """
    if "\0" in text:
        raise UserError(f"{text!r}: a path cannot hold the character 0")
    try:
        return ROOT / Path(text).expanduser()
    except RuntimeError as error:
        raise UserError(f"{text}: no such home directory; write the whole path") from error


def check_run_name(option: str, name: str) -> None:
    """Raise UserError for a `name`, given as OPTION=name, that no folder of results/ can have."""
    if len(name) > LONGEST_NAME or not re.fullmatch(RUN_NAME, name):
        remedy = "letters, digits and _.- alone; see results/"
        raise UserError(f"{option}={name}: no name of a run: {remedy}")
