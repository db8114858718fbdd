"""What a notebook leaves behind: figures, LaTeX tables, metrics, and each number's provenance."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from bundle import paths
from bundle.files import write_atomically, write_json
from bundle.runs.results import drop_dependents, merge
from bundle.training.provenance import provenance


class Notebook:
    """The record of one notebook of a run.

    Args:
        name: the notebook's file name without ending.
        run: directory under results/.
        notice: sentence that every figure carries (what the data falls short of), "" for none.
    """

    def __init__(self, name: str, run: str, notice: str = ""):
        self.name, self.run, self.notice = name, run, notice
        self.folder = paths.outputs(run)

    def heading(self):
        """Return, for display, what this page shows: the run, and loudly what its data is not."""
        from IPython.display import Markdown

        notice = f"{self.notice[:1].upper()}{self.notice[1:]}."
        warning = f'\n\n<div class="alarm">{notice}</div>' if self.notice else ""
        return Markdown(f"Run **{self.run}**{warning}")

    def figure(self, figure, name: str, alt: str) -> None:
        """Show a figure (matplotlib) with alternative text; save PDF and SVG under figures/."""
        from bundle import figures  # late: Matplotlib is slow to load

        folder = self.folder / "figures"
        folder.mkdir(exist_ok=True)
        figures.save(figure, folder / name, alt, self.notice)
        figures.show(figure, alt)

    def table(
        self,
        frame: pd.DataFrame,
        name: str,
        caption: str,
        forms: dict[str, str | Callable] | None = None,
    ):
        """Save a table as LaTeX (booktabs) under tables/ and return it for display.

        `forms` gives format strings, or functions, by column; other numbers have four significant
        digits or, if whole, thousands separated. A plain numbered index is left out.
        """
        folder = self.folder / "tables"
        folder.mkdir(exist_ok=True)
        text = as_text(frame, forms or {})
        note = f" ({self.notice})" if self.notice else ""
        latex = _without_numbers(
            text.style.format(escape="latex").format_index(escape="latex", axis=1), text
        )
        if not isinstance(text.index, pd.RangeIndex):
            latex = latex.format_index(escape="latex")
        source = latex.to_latex(
            hrules=True, caption=caption + note, label=f"tab:{name}", position_float="centering"
        )
        write_atomically(folder / f"{name}.tex", source.encode())
        return _without_numbers(text.style, text)

    def metrics(self, values: dict[str, Any]) -> None:
        """Write the notebook's metrics, with where it ran; by hand also the merged metrics.json."""
        part = {"run": self.run, **values, "provenance": {self.name: provenance()}}
        path = self.folder / f"metrics/{self.name}.json"
        path.parent.mkdir(exist_ok=True)
        write_json(path, part)
        if self.folder == paths.results(self.run):
            drop_dependents(self.name, self.folder)
            merge(self.folder)


def as_text(frame: pd.DataFrame, forms: dict[str, str | Callable]) -> pd.DataFrame:
    """Return a table whose cells are text, formatted by column, its column names words."""

    def written(value: Any, form: str | Callable | None) -> str:
        if value is None or (isinstance(value, float) and value != value):
            return "–"
        if form:
            return form(value) if callable(form) else form.format(value)
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        return f"{value:,}" if whole else f"{value:.4g}" if isinstance(value, float) else str(value)

    columns = {
        name: [written(value, forms.get(name)) for value in frame[name]] for name in frame.columns
    }
    text = pd.DataFrame(columns, index=frame.index)
    text = text.rename(columns=lambda name: str(name).replace("_", " "))
    return (
        text
        if isinstance(text.index, pd.RangeIndex)
        else text.rename(index=lambda name: str(name).replace("_", " "))
    )


def _without_numbers(style, frame: pd.DataFrame):
    return style.hide(axis="index") if isinstance(frame.index, pd.RangeIndex) else style
