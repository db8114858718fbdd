"""A network's parameters counted by hand: from the formulae of its layers, without building it."""

import pandas as pd

from lib.blocks import WHITENING_CHANNELS
from lib.settings import Network


def count_by_hand(network: Network, classes: int = 10) -> pd.DataFrame:
    """Derive the parameter count stage by stage from the formulae alone, without a network.

    A 3x3 convolution from a to b channels has 9ab parameters, a 1x1 one ab, batch norm 2b (b
    without a scale), the classifier classes * (c + 1). Columns: part, formula, parameters; the last
    row is the total.
    """
    norm, first = 2 if network.norm_scale else 1, network.widths[0]
    before = WHITENING_CHANNELS if network.stem == "whitening" else first
    rows = [("stem", *_stem_by_hand(network, before, norm))]
    stages = zip(network.blocks, network.widths, network.strides, strict=True)
    for number, (count, width, stride) in enumerate(stages, 1):
        parts = [_block_by_hand(network.block, before, width, stride != 1 or before != width, norm)]
        if count > 1:
            formula, amount = _block_by_hand(network.block, width, width, False, norm)
            parts.append((f"{count - 1}·({formula})", (count - 1) * amount))
        formulae, amounts = zip(*parts, strict=True)
        rows.append((f"stage {number}", " + ".join(formulae), sum(amounts)))
        before = width
    if network.block == "preactivation":
        rows.append(("last batch norm", f"{norm}·{before}", norm * before))
    rows.append(("classifier", f"{classes}·({before} + 1)", classes * (before + 1)))
    rows.append(("total", "", sum(row[2] for row in rows)))
    return pd.DataFrame(rows, columns=["part", "formula", "parameters"])


def _stem_by_hand(network: Network, channels: int, norm: int) -> tuple[str, int]:
    if network.stem == "whitening":
        return f"{channels} (the filters are fixed)", channels
    if network.block == "preactivation":
        return f"9·3·{channels}", 27 * channels
    return f"9·3·{channels} + {norm}·{channels}", (27 + norm) * channels


def _block_by_hand(kind: str, before: int, width: int, changes: bool, norm: int) -> tuple[str, int]:
    """Return formula and number of a block's parameters; `changes`: with a shortcut convolution."""
    first = before if kind == "preactivation" else width  # channels of the first batch norm
    weights = f"18·{width}²" if before == width else f"9·{before}·{width} + 9·{width}²"
    both = f"{2 * norm}·{width}" if first == width else f"{norm}·{before} + {norm}·{width}"
    formula = f"{weights} + {both}"
    number = 9 * before * width + 9 * width**2 + norm * (first + width)
    if not changes or kind == "pooled":
        return formula, number
    if kind == "preactivation":
        return f"({formula}) + {before}·{width}", number + before * width
    return f"({formula}) + ({before}·{width} + {norm}·{width})", number + (before + norm) * width
