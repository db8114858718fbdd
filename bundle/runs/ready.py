"""What a run needs from outside, looked at before anything starts."""

import os
import sys

from bundle import paths, surroundings
from bundle.runs.params import RunParameters, files_in
from bundle.training import provenance
from lib.errors import UserError


def check(parameters: RunParameters) -> None:
    """Raise UserError where a run would fail later for its environment or for a file it names.

    Threads that the environment does not give; a file of a parameter (its key ends in _set or
    _file) that is not there or cannot be read; a set of images in another format; no folder where
    own_images names one; a GPU or a driver that is too old. That git refuses to name the commit is
    only said.
    """
    surroundings.check_threads(parameters.values["03_train"]["threads"])
    for notebook, values in parameters.values.items():
        for key, value in files_in(values).items():
            _check_file(f"{notebook}.{key}", value)
    own = parameters.values.get("04_predict_tta", {}).get("own_images", "")
    if own and not os.path.isdir(paths.named(own)):  # noqa: PTH112 (of any text: no error)
        remedy = "write its path, from the bundle's folder or whole"
        raise UserError(f"04_predict_tta.own_images = {own}: no such folder; {remedy}")
    surroundings.check_gpu(parameters.values["03_train"]["device"])
    if said := provenance.refused():
        print(said, file=sys.stderr)


def _check_file(key: str, value: str) -> None:
    from bundle.dataset.competition import read_shifted_set  # late: it loads PyTorch

    path, what = paths.named(value), ""
    if not path.exists():
        what = "no such file"
    elif not path.is_file():
        what = "is no file"
    elif not surroundings.readable(path):
        what = "may not be read"
    if what:
        shown = "" if str(path) == value else f" ({path})"
        remedy = "write its path, from the bundle's folder or whole"
        raise UserError(f"{key} = {value}: {what}{shown}; {remedy}")
    if key.endswith(".shifted_set"):
        read_shifted_set(value)
