"""The curves of two trainings over one another."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lib.plots import BLUE, MARKED, RED, figure, styled

LOOKS = (("-", "o", BLUE), ("--", "s", RED))
PARTS = (("train", "training", 1.5, 1.0), ("holdout", "hold-out", 1.0, 0.55))


@styled
def curves(
    histories: Sequence[Sequence[dict[str, Any]]], names: Sequence[str], narrow: bool = False
) -> Figure:
    """Return training loss and accuracy over the epochs of two trainings, one look each.

    Args:
        histories: of each training a row an epoch, as history.jsonl has it.
        names: of the runs.
        narrow: for the width of a phone, the panels one above the other.
    """
    drawn, (loss, accuracy) = figure(*((3.8, 5.6, 2, 1) if narrow else (8, 3.6, 1, 2)))
    for history, name, look in zip(histories, names, LOOKS, strict=True):
        for part, told, width, alpha in PARTS:
            _line(loss, history, f"{part}_loss", 1, look, width, alpha, f"{name}, {told}")
            _line(accuracy, history, f"{part}_accuracy", 100, look, width, alpha, "")
    loss.set(title="Loss (cross entropy, nats)", xlabel="epoch")
    loss.set_ylim(bottom=0)
    accuracy.set(title="Accuracy (%)", xlabel="epoch", ylim=(0, 101))
    for axis in (loss, accuracy):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=6))
    drawn.legend(loc="outside lower left", ncols=1 if narrow else 2, fontsize=9)
    return drawn


def _line(
    axis: Any, history: Sequence, key: str, scale: int, look: tuple, width: float, alpha: float,
    label: str,
) -> None:  # fmt: skip
    """Draw one column of a history, where it has it; few epochs have a mark each."""
    rows = [row for row in history if isinstance(row.get(key), int | float)]
    if not rows:
        return
    line, mark, colour = look
    values = [scale * row[key] for row in rows]
    style = {"linestyle": line, "color": colour, "linewidth": width, "alpha": alpha}
    style |= {"marker": mark if len(rows) <= MARKED else "", "markersize": 4}
    axis.plot([row["epoch"] for row in rows], values, label=label or None, **style)
