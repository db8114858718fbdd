"""Figures as files and on a page: PDF and SVG.

On a page a chart is inline SVG whose colours are variables, ``var(--fig-0072b2, #0072b2)``: each
chart brings the values for the dark mode, and without them (JupyterLab, print) it has the light
colours.
"""

import hashlib
import io
import re
import textwrap
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from fontTools.subset import Options
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from bundle import words
from lib import plots

COLOUR = re.compile(r"(?<=[ :])#[0-9a-f]{6}(?=[;\"])")
DIGITS = re.compile(r"(\.\d\d)\d+")  # a hundredth of a point is finer than any screen
MOVED = re.compile(r' transform="translate\((\S+) 0\)"/>')  # a letter within its line
LINE = 13.7  # characters of a notice for an inch of a figure
FONTS = ["DejaVu Sans", "Verdana", "Arial"]  # that a file names: Matplotlib's, and the nearest two
PIXELS = 160  # an inch, of images in an SVG
MARK = "rehearsal: part of CIFAR-10"
PAPER, INK = 0.205, 0.88  # OKLab lightness of white and black in the dark mode
TURN = 1.3  # above 1 mid tones become a little lighter than turned over: a grey label stays legible
# fmt: off
MARKS = {  # lines and markers in the dark mode: as bright as they are dark on white
    plots.BLUE: "#5aa9e6", plots.ORANGE: "#e8a93a", plots.GREEN: "#3dba94", plots.RED: "#f08a4b",
    plots.GREY: "#a3a5aa", "#c23b22": "#e8705a", "#1a7f4b": "#4fb57e", "#0b5fa5": "#5ba3e0",
    "#000000": "#d9d7d1", "#ffffff": "#15171b", "#e4e4e4": "#2e3137",
}
# fmt: on
BRIGHT = {light.lower(): bright for light, bright in MARKS.items()}
# Linear RGB to the cone responses, and their cube roots to OKLab (Ottosson, "A perceptual color
# space for image processing", 2020).
CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
LOOK = (  # Matplotlib's own defaults, which it writes into a style sheet
    "max-width: 100%; height: auto; stroke-linejoin: round; stroke-linecap: butt; "
    "fill: {}; background: var(--fig-ground, #fff)"
)
# Not into a PDF: the rules of other scripts, which fontTools takes long to cut down.
Options._drop_tables_default = [*Options._drop_tables_default, "GDEF", "GPOS", "GSUB"]


def alarm(figures: Iterable[Figure | None], notice: str) -> None:
    """Write what of `notice` is an alarm in red above each figure; a rehearsal is none."""
    if text := words.alarm(notice):
        for figure in filter(None, figures):
            width, whole = round(LINE * figure.get_size_inches()[0]), len(words.DIGITS_NOTICE)
            lines = textwrap.fill(text, max(width, whole))  # small rather than broken
            size = 8 * min(1, width / whole)
            figure.suptitle(lines, fontsize=size, color=plots.RED, x=0.995, ha="right")


def save(figure: Figure, path: Path, alt: str, notice: str = "", pdf: bool = True) -> None:
    """Write `path`.svg and, where wanted, `path`.pdf; the same figure gives the same bytes.

    `alt` is the alternative text; a `notice` of a rehearsal is a small grey mark. One that alarms
    is written before, by `alarm`: it stands in the figure wherever it is shown.
    """
    if notice and not words.alarm(notice):
        mark = MARK if "training" in notice else notice.removeprefix("a subset of CIFAR-10: ")
        figure.suptitle(mark, fontsize=7, color=plots.GREY, x=0.995, ha="right")
        if any(axis.get_subplotspec() for axis in figure.axes):
            figure.set_layout_engine("constrained")  # again: it makes room for the mark
    drawn, about = path.with_suffix(".svg"), {"Date": None, "Description": alt}
    _draw(figure, drawn, {"font.sans-serif": FONTS}, metadata=about)
    drawn.write_text(re.sub(r"\n +", "\n", _short(drawn.read_text("utf-8"))), "utf-8")
    if pdf:
        _draw(figure, path.with_suffix(".pdf"), metadata={"CreationDate": None})


def _draw(figure: Figure, target: Any, look: Any = None, **options: Any) -> None:
    """Draw a figure as a file, laid out once for all; savefig would draw it twice for that."""
    with mpl.rc_context(plots.style() | (look or {})):
        if layout := figure.get_layout_engine():
            dots, figure.dpi = figure.dpi, 72  # as both kinds of files have
            FigureCanvasSVG(figure)
            layout.execute(figure)
            figure.set_layout_engine(None)
            figure.dpi = dots
        figure.savefig(target, **options)


def remove(path: Path) -> None:
    """Remove the files of a figure that is no more, and a table beside it of the same name."""
    for suffix in (".svg", ".pdf", ".tex"):
        path.with_suffix(suffix).unlink(missing_ok=True)


def show(
    figure: Figure, name: str, alt: str, caption: str = "", narrow: Figure | None = None
) -> None:
    """Display a figure in a notebook; a page makes of it what `bundle.pages.convert` says."""
    from IPython.display import display

    about: dict[str, Any] = {"alt": alt, "caption": caption}
    about |= {"photographs": True} if _has_photographs(figure) else {}
    about |= {"narrow": svg(narrow, alt, name, "narrow")} if narrow else {}
    mime, picture = "image/svg+xml", svg(figure, alt, name, "wide" if narrow else "")
    display({mime: picture, "text/plain": alt}, metadata={mime: about}, raw=True)


def _has_photographs(figure: Figure) -> bool:
    return bool(figure.findobj(lambda artist: artist.get_gid() == plots.PHOTOGRAPHS))


def html(figure: Figure, alt: str, name: str, narrow: Figure | None = None) -> str:
    """Return a chart as inline SVG for a page's `<figure>`, with its narrow variant where given."""
    variants = ((figure, "wide" if narrow else ""), (narrow, "narrow"))
    return "".join(svg(drawn, alt, name, shown) for drawn, shown in variants if drawn)


def svg(figure: Figure, alt: str, name: str, shown: str = "") -> str:
    """Return a chart as SVG to stand in a page.

    Args:
        figure: no wider on the page than 100 pixels an inch.
        alt: the alternative text.
        name: what begins every id, unlike that of any other figure of the page.
        shown: "wide" or "narrow" for one of two variants, "" for the only one.
    """
    view_box, body = _drawn(figure, re.sub(r"[^a-z0-9]+", "-", f"{name}-{shown}-".lower()))
    # Pixels of a chart keep their colours, so everything else does; photographs lie on any ground.
    photographs = _has_photographs(figure)
    fixed = "<image" in body and not photographs
    body = body if fixed else COLOUR.sub(lambda match: _variable(match[0]), body)
    width = round(figure.get_size_inches()[0] * 100)
    kinds = ("chart", shown, "fixed" * fixed, "photographs" * photographs)
    look = LOOK.format("#000000" if fixed else _variable("#000000"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" '
        f'class="{" ".join(filter(None, kinds))}" viewBox="{view_box}" role="img" '
        f'aria-label="{escape(alt)}" style="width: {width}px; {look}">'
        f"{'' if fixed else _dark_style(body)}{body}</svg>"
    )


def _drawn(figure: Figure, prefix: str) -> tuple[str, str]:
    """Return view box and inside of what Matplotlib draws, with ids of its own and few digits."""
    with io.StringIO() as buffer:
        options: dict[str, Any] = {"format": "svg", "dpi": PIXELS, "metadata": {"Date": None}}
        _draw(figure, buffer, {"svg.fonttype": "path"}, transparent=True, **options)
        drawn = re.search(r'viewBox="([^"]*)"[^>]*>(.*)</svg>', buffer.getvalue(), re.DOTALL)
    assert drawn  # Matplotlib writes one svg element with a view box
    body = drawn[2].replace("base64,\n", "base64,")
    body = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.S)
    body = MOVED.sub(r' x="\1"/>', _own_ids(body, prefix))
    return drawn[1], re.sub(r"\s+", " ", _short(body)).replace("> <", "><")


def _short(body: str) -> str:
    """Return a drawing with two decimals of every coordinate."""
    return re.sub(r' (d|x|y)="[^"]*"', lambda match: DIGITS.sub(r"\1", match[0]), body)


def _own_ids(body: str, prefix: str) -> str:
    """Return a drawing with the ids that it refers to, short and unlike others, and its first."""
    used = dict.fromkeys(re.findall(r'(?:href="#|url\(#)([^")]+)', body))
    own = hashlib.sha256(prefix.encode()).hexdigest()[:5]
    short = {name: f"i{own}-{number:x}" for number, name in enumerate(used)}
    names = {"figure_1": f' id="{prefix}figure_1"'}
    names |= {name: f' id="{new}"' for name, new in short.items()}
    body = re.sub(r' id="([^"]+)"', lambda match: names.get(match[1], ""), body)
    body = re.sub(r'(href="#|url\(#)([^")]+)', lambda match: match[1] + short[match[2]], body)
    return body.replace("xlink:href", "href")


def _variable(colour: str) -> str:
    return f"var(--fig-{colour[1:]}, {colour})"


def _dark_style(body: str) -> str:
    """Return the values of a chart's colours in the dark mode of a page, not of JupyterLab."""
    used = sorted({"000000", *re.findall(r"var\(--fig-([0-9a-f]{6})", body)})
    values = "; ".join(f"--fig-{colour}: {dark(f'#{colour}')}" for colour in used)
    dark_page = "@media screen and (prefers-color-scheme: dark)"
    return f"<style>{dark_page} {{ main .chart {{ {values} }} }}</style>"


def dark(colour: str) -> str:
    """Return a colour "#rrggbb" for a dark page: of the same hue, its lightness turned over.

    White becomes the page's ground and black its ink; so contrasts stay about as they were.
    """
    if colour in BRIGHT:
        return BRIGHT[colour]
    encoded = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    lab = OKLAB @ np.cbrt(CONES @ linear)
    lab[0] = INK + (PAPER - INK) * lab[0] ** TURN
    linear = np.linalg.solve(CONES, np.linalg.solve(OKLAB, lab) ** 3).clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return "#" + "".join(f"{round(value * 255):02x}" for value in encoded.clip(0, 1))
