"""A data frame as a table: text cells for a page, booktabs for LaTeX."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler


def as_text(frame: pd.DataFrame, forms: dict[str, str | Callable]) -> pd.DataFrame:
    """Return a table whose cells are text, formatted by column, its column names words.

    `forms` gives format strings, or functions, by column. Whole numbers have thousands separated,
    other numbers four significant digits, in a column as many decimals as its finest has. A
    missing value is an en dash, a minus a minus.
    """

    def written(value: Any, form: str | Callable) -> str:
        if value is None or (isinstance(value, float) and value != value):
            return "–"
        if form:
            return re.sub(r"^-(?=\d)", "−", (form if callable(form) else form.format)(value))
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        return f"{value:,}" if whole else f"{value:.4g}" if isinstance(value, float) else str(value)

    columns = {}
    for name in frame.columns:
        form = forms.get(name) or _decimals(frame[name])
        columns[name] = [written(value, form) for value in frame[name]]
    text = pd.DataFrame(columns, index=frame.index).rename(columns=_spaced)
    return text if isinstance(frame.index, pd.RangeIndex) else text.rename(index=_spaced)


def _decimals(column: pd.Series) -> str:
    """Return the format of a column of numbers of like size, "" of any other."""
    values = [value for value in column if isinstance(value, float) and value == value]
    sizes = [abs(value) for value in values if value]
    written = [f"{value:.4g}" for value in values]
    if not sizes or max(sizes) >= 1000 * min(sizes) or any("e" in text for text in written):
        return ""
    return f"{{:.{max(len(text.partition('.')[2]) for text in written)}f}}"


def _spaced(name: Any) -> str:
    return str(name).replace("_", " ")


def latex(text: pd.DataFrame, **options: str) -> str:
    """Return a table of text as LaTeX; `options` are those of pandas (caption, label)."""
    style = text.style.format(escape="latex").format_index(escape="latex", axis=1)
    if not isinstance(text.index, pd.RangeIndex):
        style = style.format_index(escape="latex")
    style = _without_numbers(style, text)
    return style.to_latex(hrules=True, position_float="centering", **options).replace("−", "$-$")


def for_display(text: pd.DataFrame, caption: str, name: str) -> Styler:
    """Return a table of text for display, its caption above it.

    `name` is its id: pandas would draw one, and mark each cell with it, so that no two pages of the
    same content were the same.
    """
    return _without_numbers(Styler(text, uuid=name, cell_ids=False, caption=caption), text)


def _without_numbers(style: Styler, frame: pd.DataFrame) -> Styler:
    return style.hide(axis="index") if isinstance(frame.index, pd.RangeIndex) else style
