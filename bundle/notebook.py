"""What a notebook sees of the bundle: its settings, the data, trainings, and what it leaves.

Heavy rooms are imported where a method needs them: ``from bundle import Notebook`` stays quick.
"""

import contextlib
import functools
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bundle import files, paths, surroundings, words
from bundle.checks import build
from bundle.runs import results
from lib.settings import SECTIONS, Run

if TYPE_CHECKING:
    from IPython.display import HTML, Markdown
    from matplotlib.figure import Figure
    from pandas.io.formats.style import Styler

    from bundle.report.shift import UnderShift
    from bundle.training.identity import Training
    from bundle.training.logits import FromFile, FromNetwork
    from bundle.training.predictions import Predictions
    from lib.data import Dataset


class Notebook:
    """One notebook of a run: ``book = Notebook("03_train", globals())``.

    Args:
        name: the notebook's file name without ending.
        variables: its variables. Those that are parameters of its section become `settings`, frozen
            and checked; every other parameter has its default.

    `run` and `folder` say where it writes, `notice` what its data falls short of ("": of nothing).

    Raises:
        UserError: a parameter has a wrong type or lies out of range.
    """

    def __init__(self, name: str, variables: dict[str, Any]):
        surroundings.check_code()
        self.name = name
        self.settings: Any = build(SECTIONS.get(name, Run), variables, name)
        surroundings.check_threads(getattr(self.settings, "threads", 1))
        surroundings.check_gpu(getattr(self.settings, "device", "cpu"))
        self.run, self.notice = self.settings.run, ""
        paths.check_run_name("run", self.run)
        self.folder = paths.outputs(self.run)

    # What it starts from

    def heading(self) -> "Markdown":
        """Return, for display in Jupyter, the run and what its data is not.

        A page leaves it out: its head says both.
        """
        from IPython.display import Markdown

        kind = "alarm" if words.alarm(self.notice) else "rehearsal"
        notice = f"{self.notice[:1].upper()}{self.notice[1:]}."
        box = f'\n\n<div class="{kind}">{notice}</div>' if self.notice else ""
        return Markdown(f"Run **{self.run}**{box}", metadata={"notebook_only": True})

    def parameters(self) -> "HTML":
        """Return, for display, every parameter by group: its value, default and meaning."""
        from IPython.display import HTML

        from bundle.pages import parameters

        return HTML(parameters.html(self.settings))

    def source(self, *definitions: Callable) -> "Markdown":
        """Return, for display, the source of functions or classes of lib."""
        from IPython.display import Markdown

        return Markdown("```python\n" + "\n\n".join(map(inspect.getsource, definitions)) + "```")

    def needed(self, file: str) -> Path:
        """Return the path of an earlier notebook's file; UserError names the notebook if none."""
        return results.needed(self.run, file)

    @functools.cached_property
    def reference(self) -> dict[str, Any]:
        """What the reference report says (docs/reference.json)."""
        return results.reference()

    def data(self, test_images: int = 0, holdout_images: int = 0) -> "Dataset":
        """Return the dataset, the parameters' or, for a notebook without such, the training's.

        Args:
            test_images, holdout_images: how many of them are used, stratified; 0 takes all.

        It sets `notice`, so it comes before headings, figures and tables.
        """
        from lib import data

        dataset = self._dataset()
        test = data.subset(dataset.test, test_images)
        held = data.subset(dataset.holdout, holdout_images)
        self.notice = words.notice(dataset, len(test), len(held))
        self.dataset = words.dataset_label(dataset.name, self.notice)
        return replace(dataset, test=test, holdout=held)

    def _dataset(self) -> "Dataset":
        from bundle.dataset import cifar10
        from bundle.training import identity

        if hasattr(wanted := self.settings, "dataset"):
            return cifar10.load(wanted.dataset, wanted.train_images, wanted.holdout)
        return identity.dataset_of(identity.read_summary(self.needed("training/state.json").parent))

    # The training

    def train(self, dataset: "Dataset") -> "tuple[Training, Markdown]":
        """Train, go on with a training under way, load a finished one, or take a released one.

        Returns the training (model, history, summary) and, for display, which of these it was.
        """
        from IPython.display import Markdown

        from bundle.report import sentences
        from bundle.training import progress, released
        from lib.schedule import total_epochs

        epochs, trained = total_epochs(self.settings), []
        show = progress.jupyter_table(epochs)

        def on_epoch(row: dict[str, Any]) -> None:
            trained.append(row)
            show(row)

        folder, retrain = paths.results(self.run), bool(os.environ.get(paths.RETRAIN_VARIABLE))
        by_hand = self.folder == folder  # headless the runner holds the run's lock
        with files.locked(folder, self.run) if by_hand else contextlib.nullcontext():
            training = released.train_or_take(self.settings, dataset, folder, on_epoch, retrain)
        return training, Markdown(sentences.which(training, len(trained)))

    def load_training(self) -> "Training | None":
        """Return the run's finished training; its model is None where only logits are here."""
        from bundle.training import released

        self.needed("training/weights.pt")
        return released.load(paths.results(self.run))

    def predictions(self) -> "Predictions | None":
        """Return the single view's predictions with their images, None where there are none."""
        from bundle.training import predictions

        file = paths.results(self.run) / "predictions.npz"
        return (
            predictions.read(file, self.data(*predictions.images(file))) if file.is_file() else None
        )

    def predictor(self, training: "Training", dataset: "Dataset") -> "FromNetwork | FromFile":
        """Return what gives the logits: the training's network, or the logits kept of it."""
        from bundle.training import logits

        return logits.source(training, dataset, self.settings)

    def under_shift(
        self, training: "Training | None", dataset: "Dataset", combination: str
    ) -> "UnderShift | None":
        """Return what the network says of corrupted test images.

        It shows how far it is. None where only the network's logits are here. `combination`: of
        views, whose mean stands beside the single view.
        """
        from bundle.report import shift
        from bundle.training import progress

        staged = self.folder != paths.results(self.run)
        show = progress.counted("corruptions", self.folder / progress.PROGRESS if staged else None)
        return shift.measured(training, dataset, self.settings, combination, self.reference, show)

    def load_metrics(self) -> dict[str, Any]:
        """Return the metrics that the notebooks before this one recorded; it sets `notice`.

        UserError: notebook 05_confusion, the last before the report, has not run.
        """
        metrics = results.read_metrics(self.run)
        if "confusion" not in metrics:
            self.needed("metrics/05_confusion.json")
        self.notice = metrics["notice"]
        return metrics

    def load_history(self) -> pd.DataFrame:
        """Return the run's training, one row an epoch."""
        from bundle.training import store

        return pd.DataFrame(store.read_history(self.needed("training/history.jsonl").parent))

    def choose(self, together: pd.DataFrame) -> str:
        """Return the combination of views to use: as named, or the best of the hold-out's table."""
        from bundle.training.logits import choose

        return choose(together, self.settings.combination)

    # In words

    def scores(self, scores: pd.DataFrame) -> pd.DataFrame:
        """Return the table of `metrics.per_class` for reading."""
        return words.scores_in_words(scores)

    def recipe(self) -> pd.DataFrame:
        """Return the training recipe of the parameters, what is used of it, one column a phase."""
        from bundle.report import recipe

        return recipe.table(self.settings)

    def epochs(self, history: pd.DataFrame) -> pd.DataFrame:
        """Return a training's epochs with the columns worth reading, named in words."""
        from bundle.report import recipe

        return recipe.history_table(history)

    def divisor(self, normalisation: str) -> str:
        """Return what a normalisation, "pixel" or "image", divides images by, for a sentence."""
        return words.divisor(normalisation)

    def cost(self, train: dict[str, Any], machine: dict[str, Any]) -> str:
        """Return what a training cost, for a sentence: `train`, `environment` of the metrics."""
        return words.cost(train, machine)

    def reference_curves(self, settings: Mapping[str, Any] | None = None) -> pd.DataFrame | None:
        """Return the reference's training as it was printed, one row an epoch.

        With `settings`, a training's parameters by name: None unless it is of the same network and
        recipe, so that the two may be compared.
        """
        from bundle.report import printed

        return printed.curves() if settings is None or printed.is_its_recipe(settings) else None

    # What it leaves

    def outcome(self, training: "Training") -> dict[str, Any]:
        """Return a training as the metrics hold it: settings, size, cost, any audit, machine."""
        from bundle.training import outcome

        summary = training.summary
        return {
            "seed": self.settings.seed,
            "settings": summary["parameters"],
            "train": outcome.of_training(training),
            "audit": outcome.audit(training.history),
            "data_checksum": summary["data"]["checksum"],
            "environment": {**summary["environment"], **summary["compute"]},
        }

    def figure(
        self, figure: "Figure", name: str, alt: str, caption: str = "", narrow: "Figure|None" = None
    ) -> None:
        """Show a figure and save it as PDF and SVG under figures/.

        Args:
            figure: shown as SVG that follows a page's dark mode; images of the dataset bear the
                mark `lib.plots.PHOTOGRAPHS`, by which a release leaves them out.
            name: of its files, and unlike any other on the page.
            alt: what a reader who cannot see it must know, with the numbers.
            caption: the finding, in a sentence for everybody; "" takes `alt`.
            narrow: the same content some 3.8 inches wide, for screens up to 600 pixels.
        """
        from bundle import figures  # late: Matplotlib is slow to load

        folder = self.folder / "figures"
        folder.mkdir(exist_ok=True)
        figures.alarm((figure, narrow), self.notice)
        figures.show(figure, name, alt, caption, narrow)
        figures.save(figure, folder / name, alt, self.notice)

    def mistakes(
        self, pixels: Any, labels: Any, probabilities: Any, classes: Any, caption: str = ""
    ) -> "HTML":
        """Return, for display, the confusion matrix; a cell opens its images, the surest first.

        Args:
            pixels: images (N, 3, H, W), uint8; labels: their classes (N,).
            probabilities: of each class (N, C), in [0, 1]; classes: C names.
            caption: what the matrix shows; "" says how many mistakes there are and which most.
        """
        from IPython.display import HTML

        from bundle.pages import mistakes

        seen, true, said = (np.asarray(array) for array in (pixels, labels, probabilities))
        return HTML(mistakes.html(seen, true, said, classes, caption))

    def table(
        self,
        frame: pd.DataFrame,
        name: str,
        caption: str,
        forms: dict[str, str | Callable] | None = None,
    ) -> "Styler":
        """Save a table as LaTeX (booktabs) under tables/ and return it for display with `caption`.

        A page numbers it, so `caption` begins with what the table shows. `forms` gives format
        strings, or functions, by column. A plain numbered index is left out.
        """
        from bundle.pages import frames

        folder = self.folder / "tables"
        folder.mkdir(exist_ok=True)
        text = frames.as_text(frame, forms or {})
        note = f" ({self.notice})" if self.notice else ""
        source = frames.latex(text, caption=caption + note, label=f"tab:{name}")
        files.write_atomically(folder / f"{name}.tex", source.encode())
        return frames.for_display(text, caption, name)

    def metrics(self, values: dict[str, Any]) -> None:
        """Write the notebook's metrics, with where it ran; by hand also the merged metrics.json."""
        from bundle.training.provenance import provenance

        part = {"run": self.run, **values, "provenance": {self.name: provenance()}}
        path = self.folder / f"metrics/{self.name}.json"
        path.parent.mkdir(exist_ok=True)
        files.write_json(path, part)
        if self.folder == paths.results(self.run):
            results.keep_by_hand(self.name, self.folder)
