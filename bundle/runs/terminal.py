"""What a run tells on the terminal: its steps, how long they may take, how it ended."""

from collections.abc import Iterable
from pathlib import Path

from bundle import paths, words
from bundle.files import read_intact
from bundle.runs import results, status
from bundle.runs.graph import Node, label
from bundle.runs.params import RunParameters


class Steps:
    """Prints one line a notebook, "[3 of 7] Training (03_train): done in 3 min"."""

    def __init__(self, names: Iterable[str]):
        self.names = list(names)
        self.open = False  # whether the line of a step that has begun is not ended

    def begin(self, name: str, own_lines: bool = False) -> None:
        """Say which notebook runs; with `own_lines` what it tells stands below its line."""
        self.open = not own_lines
        print(f"{self._place(name)}: running", end="\n" if own_lines else " ... ", flush=True)

    def end(self, name: str, what: str) -> None:
        """Say how the notebook ended, on the line of its beginning where that is still open."""
        print(what if self.open else f"{self._place(name)}: {what}", flush=True)
        self.open = False

    def break_line(self) -> None:
        """End a line that is still open, so that an error stands on its own."""
        if self.open:
            print(flush=True)
        self.open = False

    def _place(self, name: str) -> str:
        return f"[{self.names.index(name) + 1} of {len(self.names)}] {label(name)} ({name})"


def plan(parameters: RunParameters, retrain: bool = False, until: str = "") -> str:
    """Return which notebooks have to run, and how long that took the last time, as one line."""
    folder, todo = paths.results(parameters.name), []
    for node, phrases in status.waiting(parameters):
        if phrases or (retrain and node.name == "03_train"):
            todo.append(node)
        if node.name == until:
            break
    if not todo:
        return f"{parameters.name}: all is up to date"
    seconds = [_last_time(node, folder, retrain) for node in todo]
    some = f"{parameters.name}: {words.count(len(todo), 'notebook')} to run"
    known = [second for second in seconds if second is not None]
    if len(known) == len(seconds):
        return f"{some}, some {words.duration(sum(known))} by the last time"
    released = read_intact(paths.RESULTS / "released" / parameters.name / "metrics.json")
    took = words.number(released, "train", "seconds")
    if took is None or "03_train" not in [node.name for node in todo]:
        return f"{some}; how long that takes is not known yet"
    where = words.machine_in_short(released["environment"])
    return f"{some}; the training took {words.duration(took)} where it was released ({where})"


def _last_time(node: Node, folder: Path, retrain: bool) -> float | None:
    """Return how long a notebook took here, in seconds; with `retrain` 03 as it last trained."""
    if retrain and node.name == "03_train":
        return words.number(read_intact(folder / node.metrics), "train", "seconds")
    return words.number(status.record_of(node.name, folder), "seconds")


def state(parameters: RunParameters) -> str:
    """Return which run it is, what it reached and when, then a line a notebook."""
    rows = status.waiting(parameters)
    waiting = [bool(phrases) for _, phrases in rows]
    todo = f"{sum(waiting)} of {len(waiting)} notebooks to run"
    parts = [f"{parameters.name}: {todo if any(waiting) else 'all up to date'}"]
    metrics = results.readable_metrics(parameters.name)
    if "test" in metrics and "train" in metrics:
        day = str(metrics["train"].get("finished") or "")[:10]
        trained = f", trained on {day}" if day else ""
        accuracy = words.percent(metrics["test"]["accuracy"], metrics["test"]["images"])
        parts.append(f"{accuracy} on the test set{trained}")
    report = paths.results(parameters.name) / "report.html"
    parts += [paths.shown(report)] if report.is_file() else []
    return "; ".join(parts) + f"\n{status.report(parameters, rows)}"


def summary(parameters: RunParameters) -> str:
    """Return the closing lines: what was reached, by what, where the pages are, what is next.

    Where a shifted set was predicted, one more names the file of its predictions.
    """
    metrics = results.read_metrics(parameters.name)
    test, train = metrics["test"], metrics["train"]
    keys = ("accuracy", "low", "high", "tta_accuracy")
    reached, low, high, averaged = (words.percent(test.get(key), test["images"]) for key in keys)
    accuracy = f"{reached} of {test['images']:,} test images right (95%: {low} to {high})"
    if results.averages_views(metrics):
        accuracy += f"; {averaged} with averaged views"
    took = f"{words.count(train['epochs'], 'epoch')} in {words.duration(train['seconds'])}"
    took += ", released: trained elsewhere" if train.get("released") else ""
    folder = paths.results(parameters.name)
    report, predicted = paths.shown(folder / "report.html"), folder / "submission.csv"
    csv = f"csv      {paths.shown(predicted)}\n" if predicted.is_file() else ""
    return (
        f"result   {accuracy}\n"
        f"network  {metrics['parameters']:,} parameters; {took}\n"
        f"report   {report}; all runs: {paths.shown(paths.RESULTS / 'index.html')}\n"
        f"{csv}next     {_next(parameters, results.notice_of(metrics))}"
    )


def _next(parameters: RunParameters, notice: str) -> str:
    """Return what the result is not, and the command that leads on."""
    command, reached = results.full_result()
    if words.DIGITS_NOTICE in notice:
        return f"these are {words.DIGITS_NOTICE}: make data, then this command again"
    if words.alarm(notice):
        return f"{words.alarm(notice)}: not a result to cite"
    if notice:
        known = f" ({reached})" if reached else ""
        return f"a rehearsal. For a full result: {command}{known}"
    run = f"RUN={parameters.file}"
    return f"make pdf {run} prints the report, make release {run} keeps the run"
