"""Claims about the network, judged by building and counting it: parameters, layers, memory.

A test takes what it names: `reference` (docs/reference.json) and, where it needs one, the claim's
`tolerance`.
"""

import torch

from bundle.claims.claim import Finding, Reference, agreed, joined
from lib import layers, model
from lib.settings import Network

# Its form for CIFAR.
RESNET18 = {"blocks": [2, 2, 2, 2], "widths": [64, 128, 256, 512], "strides": [1, 2, 2, 2]}
CLASSES = 10


def _network(reference: Reference) -> model.ResNet:
    """Return the network without storage: counting and following shapes need no values."""
    with torch.device("meta"):
        return model.build(_described(reference), CLASSES)


def _described(shape: dict) -> Network:
    return Network(**{key: shape[key] for key in ("blocks", "widths", "strides")})


def _count(reference: Reference) -> int:
    return model.count_parameters(_network(reference))


def _by_hand(shape: dict) -> int:
    return int(layers.count_by_hand(_described(shape), CLASSES)["parameters"].iloc[-1])


def parameters_stated(reference: Reference, tolerance: float) -> Finding:
    """The count in the report's text against the network's."""
    stated, count, by_hand = (
        reference["parameters_reported"],
        _count(reference),
        _by_hand(reference),
    )
    same = " and by hand alike" if by_hand == count else f" ({by_hand:,} by hand)"
    return Finding(
        agreed(abs(stated - count) <= tolerance),
        f"{count:,} parameters, counted in the network{same}; the stated figure is "
        f"{abs(stated - count):,} ({abs(stated / count - 1):.1%}) too "
        f"{'high' if stated > count else 'low'}.",
        f"Rounding to the last digit printed explains a difference of at most {tolerance:,.0f}.",
    )


def parameters_formula(reference: Reference) -> Finding:
    """The sum of the report's formula, and what it equals: blocks of two full-width convolutions.

    The stem has 9 * 3 c1 weights, a block of two convolutions from c to c channels 18 c^2, the
    classifier 10 c4.
    """
    total, count, widths = reference["parameters_formula"], _count(reference), reference["widths"]
    blocks = sum(
        number * 18 * width**2 for number, width in zip(reference["blocks"], widths, strict=True)
    )
    simple = 27 * widths[0] + blocks + CLASSES * widths[-1]
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
    fewer = [1 - count / base for count in counts]
    near = min(zip(fewer, counts, strict=True), key=lambda one: abs(one[0] - claimed))[1]
    return Finding(
        agreed(abs(fewer[0] - claimed) <= tolerance),
        f"{fewer[0]:.1%} fewer than the {base:,} of ResNet-18 in its form for CIFAR. The "
        f"formula's {counts[1]:,} would give {fewer[1]:.1%}, the stated {counts[2]:,} "
        f"{fewer[2]:.1%}.",
        f"Rounding to the last digit printed explains a difference of at most {100 * tolerance:g} "
        f"points. The claim comes nearest to the count of {near:,}.",
    )


def layer_table(reference: Reference) -> Finding:
    """The rows of the layer table that are known: its first ones and its last."""
    table = layers.layer_table(_network(reference))
    kinds = [layer.rsplit("-", 1)[0] for layer in table["layer"]]
    ours, stated = list(zip(kinds, table["parameters"], strict=True)), reference["layer_table_head"]
    agree = sum(
        kind == row["layer"] and row["parameters"] in (None, count)
        for (kind, count), row in zip(ours, stated, strict=False)
    )
    last, claimed = table.iloc[-1], reference["last_layer"]
    ends = (last["layer"], last["parameters"]) == (claimed["name"], claimed["parameters"])
    return Finding(
        agreed(agree == len(stated) and ends),
        f"{agree} of the {len(stated)} first rows agree; row {len(table)} is {last['layer']} with "
        f"{last['parameters']:,} parameters.",
        "The table was made anew by following the shape of an image through the network built "
        "here. The rows between are not known.",
    )


def memory(reference: Reference) -> Finding:
    """The four figures of the usual memory estimate for one image, to the two decimals printed."""
    ours, stated = (
        layers.memory_estimate(layers.layer_table(_network(reference))),
        reference["memory_mb"],
    )
    figures = [f"{ours[name]:.2f} MB {name.replace('_', ' and ')}" for name in stated]
    return Finding(
        agreed(all(round(ours[name], 2) == figure for name, figure in stated.items())),
        f"{joined(figures)}; a MB has {2**20:,} bytes.",
        "Every layer's output is counted once for the forward and once for the backward pass, at "
        "4 bytes a value: an estimate of what is kept, not a measurement.",
    )


_ALL = (parameters_stated, parameters_formula, parameters_counted, reduction, layer_table, memory)
TESTS = {test.__name__: test for test in _ALL}
