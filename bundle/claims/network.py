"""Claims about the network, judged by building and counting it: parameters, layers, memory.

A test takes what it names: `reference` (docs/reference.json) and, where it needs one, the claim's
`tolerance`.
"""

from typing import Any

import torch

from bundle.claims.claim import Finding, Reference, agreed, named
from bundle.words import listed
from lib import layers, model
from lib.settings import Network

# Its form for CIFAR.
RESNET18 = {"blocks": [2, 2, 2, 2], "widths": [64, 128, 256, 512], "strides": [1, 2, 2, 2]}
CLASSES = 10


def _network(shape: dict[str, Any]) -> Network:
    return Network(**{key: shape[key] for key in ("blocks", "widths", "strides")})


def _built(reference: Reference) -> model.ResNet:
    """Return the network without storage: counting and following shapes need no values."""
    with torch.device("meta"):
        return model.build(_network(reference), CLASSES)


def _count(reference: Reference) -> int:
    return model.count_parameters(_built(reference))


def _by_hand(shape: dict[str, Any]) -> int:
    return int(layers.count_by_hand(_network(shape), CLASSES)["parameters"].iloc[-1])


def parameters_stated(reference: Reference, tolerance: float) -> Finding:
    """The count in the report's text against the network's."""
    stated, count = reference["parameters_reported"], _count(reference)
    by_hand, off = _by_hand(reference), abs(stated - count)
    same = " and by hand alike" if by_hand == count else f" ({by_hand:,} by hand)"
    return Finding(
        agreed(off <= tolerance),
        f"{count:,} parameters, counted in the network{same}; the stated figure is {off:,} "
        f"({off / count:.1%}) too {'high' if stated > count else 'low'}.",
        f"Rounding to the last digit printed explains a difference of at most {tolerance:,.0f}.",
    )


def parameters_formula(reference: Reference) -> Finding:
    """The sum of the report's formula, and what it equals: blocks of two full-width convolutions.

    The stem has 9 * 3 c1 weights, a block of two convolutions from c to c channels 18 c^2, the
    classifier 10 c4.
    """
    total, count, widths = reference["parameters_formula"], _count(reference), reference["widths"]
    stages = zip(reference["blocks"], widths, strict=True)
    simple = 27 * widths[0] + sum(n * 18 * c**2 for n, c in stages) + CLASSES * widths[-1]
    same = "exactly what one gets" if simple == total else f"{total - simple:+,} off what one gets"
    return Finding(
        agreed(total == count),
        f"The printed terms add up to {total:,}: that is {abs(total - count):,} off the network's "
        f"{count:,} and {total - reference['parameter_limit']:,} above the limit.",
        f"It is {same} by counting the stem, two full-width 3x3 convolutions for each block and "
        f"the classifier's weights ({simple:,}). That overlooks the narrower input of a stage's "
        "first block and leaves out batch norm, 1x1 shortcuts and biases. Nor is it the "
        f"{reference['parameters_reported']:,} that the report states beside it.",
    )


def parameters_counted(reference: Reference) -> Finding:
    """The count of the notebook's own summary, and the limit."""
    count, limit = _count(reference), reference["parameter_limit"]
    return Finding(
        agreed(count == reference["parameters"] and count <= limit),
        f"{count:,} parameters, all trainable, {limit - count:,} below the limit.",
        "The network was built here from the described blocks, widths and strides, and counted.",
    )


def reduction(reference: Reference, tolerance: float) -> Finding:
    """How many fewer parameters than ResNet-18 in CIFAR's form, from each of the three counts."""
    base, claimed = _by_hand(RESNET18), reference["reduction_reported"]
    counts = (_count(reference), reference["parameters_formula"], reference["parameters_reported"])
    fewer = {count: 1 - count / base for count in counts}
    counted, formula, stated = fewer.values()
    near = min(fewer, key=lambda count: abs(fewer[count] - claimed))
    return Finding(
        agreed(abs(counted - claimed) <= tolerance),
        f"{counted:.1%} fewer than the {base:,} of ResNet-18 in its form for CIFAR. The formula's "
        f"{counts[1]:,} would give {formula:.1%}, the stated {counts[2]:,} {stated:.1%}.",
        f"Rounding to the last digit printed explains a difference of at most {100 * tolerance:g} "
        f"points. The claim comes nearest to the count of {near:,}.",
    )


def layer_table(reference: Reference) -> Finding:
    """The rows of the layer table that are known: its first ones and its last."""
    table, head = layers.layer_table(_built(reference)), reference["layer_table_head"]
    rows = zip(table["layer"].str.rsplit("-", n=1).str[0], table["parameters"], head, strict=False)
    agree = sum(
        kind == row["layer"] and row["parameters"] in (None, count) for kind, count, row in rows
    )
    last, claimed = table.iloc[-1], reference["last_layer"]
    ends = (last["layer"], last["parameters"]) == (claimed["name"], claimed["parameters"])
    return Finding(
        agreed(agree == len(head) and ends),
        f"{agree} of the {len(head)} first rows agree; row {len(table)} is {last['layer']} with "
        f"{last['parameters']:,} parameters.",
        "The table was made anew by following the shape of an image through the network built "
        "here. The rows between are not known.",
    )


def memory(reference: Reference) -> Finding:
    """The four figures of the usual memory estimate for one image, to the two decimals printed."""
    stated, table = reference["memory_mb"], layers.layer_table(_built(reference))
    ours = layers.memory_estimate(table)
    figures = [f"{ours[name]:.2f} MB {name.replace('_', ' and ')}" for name in stated]
    return Finding(
        agreed(all(round(ours[name], 2) == figure for name, figure in stated.items())),
        f"{listed(figures)}; a MB has {2**20:,} bytes.",
        "Every layer's output is counted once for the forward and once for the backward pass, at "
        "4 bytes a value: an estimate of what is kept, not a measurement.",
    )


TESTS = named(
    parameters_stated, parameters_formula, parameters_counted, reduction, layer_table, memory
)
