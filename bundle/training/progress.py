"""How training is shown at work: a line an epoch, a bar on a terminal, a table in JupyterLab."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundle import files
from bundle.training import store
from bundle.words import duration, rate
from lib.errors import UserError

if TYPE_CHECKING:
    from rich.progress import Progress

QUIET_SECONDS = 20.0  # after which a line says that the training goes on
BESIDE = 0.8  # processes more than cores, over the last minute, from which on a line says so
CROWDED_SECONDS = 120.0  # between two such lines


def epoch_line(row: dict[str, Any], epochs: int | None = None) -> str:
    """Return one epoch of the history as a line, with the time left where `epochs` is known."""
    number = f"epoch {row['epoch']}" + (f"/{epochs}" if epochs else "")
    parts = [number, f"loss {row['train_loss']:.3f}"]
    if "holdout_accuracy" in row:
        parts.append(f"hold-out accuracy {row['holdout_accuracy']:.1%}")
    parts += [f"rate {rate(row['learning_rate'])}", f"{row['images_per_second']:,.0f} images/s"]
    if epochs and epochs > row["epoch"]:
        parts.append(f"{duration((epochs - row['epoch']) * row['seconds'])} left")
    return "  ".join(parts)


def crowded() -> str:
    """Return a remark where more wants to compute than there are cores, "" where not.

    Every parallel step waits for the thread that was put aside, so one other busy process can cost
    far more than its share.
    """
    try:
        cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    except (AttributeError, OSError):  # a system that does not tell
        return ""
    if load < cores + BESIDE:
        return ""
    return f"slowed by other processes (load {load:.1f} on {cores} cores)"


def print_epoch(row: dict[str, Any]) -> None:
    """Print an epoch at once, also into a pipe."""
    print(epoch_line(row), flush=True)


def jupyter_table(epochs: int) -> Callable[[dict[str, Any]], None]:
    """Return a callback that updates one line of a notebook's output: no line an epoch."""
    from IPython.display import HTML, display

    handle = None

    def show(row: dict[str, Any]) -> None:
        nonlocal handle
        bar = f"<progress value='{row['epoch']}' max='{epochs}'></progress>"
        begun = "Done: " if row["epoch"] == epochs else f"{bar} "
        line = HTML(f"{begun}{epoch_line(row, epochs)}")
        handle = handle or display(line, display_id=True)
        handle.update(line)

    return show


PROGRESS = "progress.json"  # how far a notebook is, in the folder that it writes to


def counted(what: str, file: Path | None) -> Callable[[int, int, str], None]:
    """Return a callback (done, of, name) that updates one line of a notebook's output.

    what: the noun of what is counted. file: for `Shares`, None where nobody follows.
    """
    from IPython.display import HTML, display

    handle, started = display(HTML(""), display_id=True), time.monotonic()

    def show(done: int, of: int, name: str) -> None:
        bar = f"<progress value='{done}' max='{of}'></progress> {name.replace('_', ' ')}"
        end = f"Done: {of} {what} in {duration(time.monotonic() - started)}."
        handle.update(HTML(end if done == of else f"{bar}, {done} of {of} {what} done"))
        if file:
            files.write_json(file, {"done": done, "of": of})

    return show


class Shares:
    """Adds 20%, 40%, ... to the line of a notebook that runs, as far as it tells (`counted`)."""

    def __init__(self, file: Path):
        self.file, self.said = file, 0

    def poll(self) -> None:
        """Print what is new since the last call."""
        told = files.read_intact(self.file)
        share = 100 * told["done"] // told["of"] if told else 0
        while self.said + 20 <= share < 100:
            self.said += 20
            print(f"{self.said}%", end=" ", flush=True)

    close = poll


class Follower:
    """Draws the progress of a training that another process does, from the files it leaves.

    On a terminal a bar (rich), elsewhere one line an epoch. Call `poll` now and then, `close` at
    the end.
    """

    def __init__(self, run_folder: Path, epochs: int):
        self.folder = store.partial_folder(run_folder)
        self.complete = store.complete_folder(run_folder)
        self.epochs = epochs
        self.bar: Progress | None = None
        self.shown: int | None = None  # rows of the history
        self.started = self.said = time.time()
        self.before = len(store.read_history(self.folder))
        self.terminal, self.explained = sys.stdout.isatty(), False
        self.crowded_at = self.started

    def poll(self) -> None:
        """Show what is new since the last call."""
        folders = (self.folder, self.complete)
        fresh = [folder for folder in folders if self._is_fresh(folder / "history.jsonl")]
        if not fresh:
            return
        rows = store.read_history(fresh[0])
        if self.shown is None:
            self.shown = self.before if len(rows) >= self.before else 0
            if self.shown:
                self._say(f"  goes on after epoch {self.shown} of {self.epochs}")
        for row in rows[self.shown :]:
            self._explain(row)
            self._say(f"  {epoch_line(row, self.epochs)}")
        self.shown = max(self.shown or 0, len(rows))
        if time.time() - self.crowded_at > CROWDED_SECONDS and (remark := crowded()):
            self.crowded_at = time.time()
            self._say(f"  {remark}")
        if self.terminal:
            self._draw()
        elif time.time() - self.said > QUIET_SECONDS and (beat := self._beat()):
            self._say(f"{self._where(beat)}, step {beat['step']} of {beat['steps']}")

    def _explain(self, row: dict[str, Any]) -> None:
        """Say before the first line what it shows."""
        if not self.explained and "holdout_accuracy" in row:
            self._say("  (hold-out: images kept out of the training; rate: the learning rate)")
        self.explained = True

    def _is_fresh(self, history: Path) -> bool:
        """Whether this process's notebook wrote the file: an old state is not shown as new."""
        try:
            return history.stat().st_mtime >= self.started - 1
        except FileNotFoundError:
            return False

    def _draw(self) -> None:
        if not (beat := self._beat()):
            return
        if self.bar is None:
            self.bar = _bar()
            self.bar.start()
            self.task = self.bar.add_task("", total=self.epochs)
        done = beat["epoch"] - 1 + beat["step"] / beat["steps"]
        self.bar.update(self.task, completed=done, description=self._where(beat))

    def _where(self, beat: dict[str, Any]) -> str:
        return f"  epoch {beat['epoch']}/{beat['epochs']}"

    def _beat(self) -> dict[str, Any]:
        """Return the last heartbeat of an epoch that is not over, or {}."""
        try:
            beat = files.read_json(self.folder / "progress.json")
        except UserError:  # half a moment between two files; the next poll sees it
            return {}
        return beat if beat and beat["epoch"] > (self.shown or 0) else {}

    def _say(self, line: str) -> None:
        self.said = time.time()
        if self.bar:
            self.bar.console.print(line)
        else:
            print(line, flush=True)

    def close(self) -> None:
        """Show the rest and take the bar away."""
        self.poll()
        if self.bar:
            self.bar.stop()


def _bar() -> "Progress":
    """Return a bar for a terminal: where, how far, how long it took and will take."""
    from rich import progress

    left = progress.TimeRemainingColumn(elapsed_when_finished=False)
    columns = ("{task.description}", progress.BarColumn(), progress.TimeElapsedColumn(), "done,")
    return progress.Progress(*columns, left, "left", transient=True)
