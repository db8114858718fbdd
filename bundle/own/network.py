"""A finished run's network for one's own pictures: ``load_released("cpu").predict("folder")``."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import pandas as pd
import torch
from torch import Tensor

from bundle import files, paths, words
from bundle.own import pictures
from bundle.runs import results
from bundle.training import identity, released, store, weights
from lib import predict
from lib.data import Statistics
from lib.errors import UserError, nearest
from lib.model import ResNet, channels_last

if TYPE_CHECKING:
    from IPython.display import HTML

RELEASED = "released/"  # begins the name of a release, as its folder in results/
TEMPERATURE = ("temperature", "value")  # where a record has it
MAPS = 20  # pictures whose occlusion maps are computed at a time: 82 copies of each


@dataclass(frozen=True)
class Network:
    """A run's network, on the CPU and in fp32: it answers every picture with one of its `classes`.

    temperature: divides the logits, which calibrates the probabilities; None where the run's record
    has none: then they are as the network gives them. metrics: the record, {} without one.
    """

    run: str
    model: ResNet
    statistics: Statistics
    classes: tuple[str, ...]
    temperature: float | None
    metrics: dict[str, Any]

    def probabilities(self, pixels: Tensor) -> Tensor:
        """Return float32 (N, classes), rows of sum 1, for images uint8 (N, 3, 32, 32)."""
        logits = predict.logits(self.model, pixels, self.statistics)
        return (logits / (self.temperature or 1.0)).softmax(1)

    def predict(self, images: pictures.Paths) -> pd.DataFrame:
        """Return file, class, probability and a column for each class, a row for each picture.

        Args:
            images: a path, or several: of pictures of any size and mode, or of folders of them.
                `bundle.own.pictures` says what is done to each.

        A file that is no picture is a line on stderr. Raises UserError where none is a picture.
        """
        found, problems = pictures.read(images)
        pictures.tell(problems)
        return self.table(found)

    def table(self, found: list[pictures.Picture]) -> pd.DataFrame:
        """Return the table of `predict` for pictures that are read."""
        given = self.probabilities(stacked(found)).numpy()
        best = given.argmax(1)
        columns = {
            "file": [picture.file for picture in found],
            "class": [self.classes[number] for number in best],
            "probability": given.max(1),
        }
        return pd.DataFrame(columns | dict(zip(self.classes, given.T, strict=True)))

    def occlusion(self, pixels: Tensor, classes: Tensor) -> Tensor:
        """Return which parts of images speak for a class, as `lib.predict.occlusion`.

        Args:
            pixels: uint8 (N, 3, 32, 32).
            classes: int64 (N,), the class that is asked for of each.
        """
        given = (self.statistics, self.temperature or 1.0)
        parts = zip(pixels.split(MAPS), torch.as_tensor(classes).split(MAPS), strict=True)
        return torch.cat([predict.occlusion(self.model, *part, *given) for part in parts])

    def show(self, images: pictures.Paths, occlusion: bool = False) -> "HTML":
        """Return pictures, what the network sees of them and its probabilities, for a notebook.

        Args:
            images: as for `predict`.
            occlusion: with a map of the parts that speak for the predicted class.
        """
        from IPython.display import HTML

        from bundle.own import page

        found, problems = pictures.read(images)
        pictures.tell(problems)
        return HTML(page.fragment(self, found, occlusion))

    @property
    def calibrated(self) -> str:
        """What the probabilities are, in a sentence."""
        if self.temperature is None:
            return (
                "The probabilities are as the network gives them: the run's record has no "
                "temperature, so they are not calibrated."
            )
        return (
            f"The probabilities are calibrated with the run's temperature, {self.temperature:.2f}."
        )


def stacked(found: list[pictures.Picture]) -> Tensor:
    """Return the pixels of pictures, uint8 (N, 3, 32, 32)."""
    return torch.stack([torch.from_numpy(picture.pixels) for picture in found])


@overload
def load_released(run: str) -> Network: ...


@overload
def load_released(run: str, needed: bool) -> Network | None: ...


def load_released(run: str, needed: bool = True) -> Network | None:
    """Return the network of a finished run here, results/RUN, or else of its release.

    Args:
        run: its name; "released/RUN" takes the release whatever is here.
        needed: False returns None where no weights are kept; True takes another seed's release.

    Raises:
        UserError: no such run, no weights, or files that are not as they were written.
    """
    paths.check_run_name("RUN", run)
    names = [run] if run.startswith(RELEASED) else [run, f"{RELEASED}{run}"]
    seeds = sorted(paths.RESULTS.glob(f"{names[-1]}-seed*/training/{weights.FILE}"))
    for name in [*names, *(f"{RELEASED}{path.parents[1].name}" for path in seeds if needed)]:
        if loaded := _weights(name):
            metrics = _record(name, loaded[0])
            return Network(name, *loaded, words.number(metrics, *TEMPERATURE), metrics)
    if not needed:
        return None
    kept = (f"*/training/{store.WEIGHTS}", f"{RELEASED}*/training/{weights.FILE}")
    known = [path.parents[1].name for pattern in kept for path in paths.RESULTS.glob(pattern)]
    here = f"; runs with weights here: {', '.join(sorted(known))}" if known else ""
    remedy = f"{files.run_again(run.removeprefix(RELEASED))} trains it{nearest(run, known)}{here}"
    where = " and ".join(paths.shown(paths.results(name)) for name in names)
    raise UserError(f"RUN={run}: no weights in {where}; {remedy}")


def _weights(name: str) -> tuple[ResNet, Statistics, tuple[str, ...]] | None:
    """Return network, normalisation and classes of a folder of results/, None without weights."""
    folder = store.complete_folder(paths.results(name))
    if name.startswith(RELEASED):
        if not (path := folder / weights.FILE).is_file():
            return None
        saved = weights.unpack(path)
    else:
        training = released.load(folder.parent)
        if training is None or training.model is None:
            return None
        path, saved = folder / store.WEIGHTS, store.load_weights(folder)
    try:
        model = channels_last(identity.network_of(saved).eval())
        statistics = (tuple(saved["statistics"][part]) for part in ("mean", "std"))
        return model, Statistics(*statistics), tuple(saved["classes"])
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise store.damaged(path, "not the weights of a network here") from error


def _record(name: str, model: ResNet) -> dict[str, Any]:
    """Return the metrics of a run, {} where none can be read or they are of other weights."""
    metrics = results.readable_metrics(name, say=lambda problem: print(problem, file=sys.stderr))
    train = metrics.get("train")
    same = isinstance(train, dict) and train.get("weights_sha256") == store.weights_digest(model)
    return metrics if same else {}
