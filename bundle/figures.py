"""Figures as files and on a page: PDF, SVG, and a picture with its alternative text."""

import io
import textwrap
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from lib import plots

NOTICE_WIDTH = 110  # characters of a line above the figure


def save(figure: Figure, path: Path, alt: str, notice: str = "", pdf: bool = True) -> None:
    """Write `path`.svg and, where wanted, `path`.pdf; the same figure gives the same bytes.

    `alt` is the alternative text; `notice` stands in red above the figure.
    """
    if notice:
        text = textwrap.fill(notice, NOTICE_WIDTH)
        figure.suptitle(text, fontsize=8, color=plots.RED, x=0.995, ha="right")
    with mpl.rc_context(plots.style()):
        if pdf:
            figure.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None})
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None, "Description": alt})


def show(figure: Figure, alt: str) -> None:
    """Display a figure in a notebook, with its alternative text."""
    from IPython.display import display

    with mpl.rc_context(plots.style()), io.BytesIO() as buffer:
        figure.savefig(buffer, format="png", dpi=160)
        picture = {"image/png": buffer.getvalue(), "text/plain": alt}
    width = round(figure.get_size_inches()[0] * 100)
    display(picture, metadata={"image/png": {"alt": alt, "width": width}}, raw=True)
