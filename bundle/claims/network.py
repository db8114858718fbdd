"""Claims about the network, judged by building and counting it: parameters, layers, memory.

A test takes what it names: `reference` (docs/reference.json) and, where it needs one, the claim's
`tolerance`.
"""

import math
from typing import Any

import torch

from bundle.by_hand import count_by_hand
from bundle.claims.claim import Finding, Reference, agreed, named
from bundle.words import listed
from lib import layers, model
from lib.settings import Network

# Its form for CIFAR.
RESNET18 = {"blocks": [2, 2, 2, 2], "widths": [64, 128, 256, 512], "strides": [1, 2, 2, 2]}
CLASSES = 10
POOLING = ("GlobalAveragePool", "AdaptiveAvgPool2d")  # our name, and the notebook's


def _network(shape: dict[str, Any]) -> Network:
    return Network(**{key: shape[key] for key in ("blocks", "widths", "strides")})


def _built(reference: Reference) -> model.ResNet:
    """Return the network without storage: counting and following shapes need no values."""
    with torch.device("meta"):
        return model.build(_network(reference), CLASSES)


def _count(reference: Reference) -> int:
    return model.count_parameters(_built(reference))


def _by_hand(shape: dict[str, Any]) -> int:
    return int(count_by_hand(_network(shape), CLASSES)["parameters"].iloc[-1])


def parameters_stated(reference: Reference, tolerance: float) -> Finding:
    """The count in the report's text against the network's."""
    stated, count = reference["parameters_reported"], _count(reference)
    by_hand, off = _by_hand(reference), abs(stated - count)
    same = " and by hand alike" if by_hand == count else f" ({by_hand:,} by hand)"
    return Finding(
        agreed(off <= tolerance),
        f"The network has {count:,} parameters; the stated number is {off:,} ({off / count:.1%}) "
        f"too {'high' if stated > count else 'low'}.",
        f"Counted in the network built here{same}. Rounding to the last digit printed explains a "
        f"difference of at most {tolerance:,.0f}.",
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
        f"The printed formula gives {total:,}: {abs(total - count):,} off the network's {count:,} "
        f"and {total - reference['parameter_limit']:,} above the limit.",
        f"It is {same} by counting the stem, two full-width 3x3 convolutions for each block and "
        f"the classifier's weights ({simple:,}). That overlooks the narrower input of a stage's "
        "first block and leaves out batch norm, 1x1 shortcuts and biases. Nor is it the "
        f"{reference['parameters_reported']:,} that the report states beside it.",
    )


def parameters_counted(reference: Reference) -> Finding:
    """The count of the summary table, and the limit."""
    count, limit = _count(reference), reference["parameter_limit"]
    return Finding(
        agreed(count == reference["parameters"] and count <= limit),
        f"The network has {count:,} parameters, all trainable, {limit - count:,} below the limit.",
        "The network was built here from the described blocks, widths and strides, and counted. "
        "Of the three counts that the report prints, this one is right.",
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
        f"The network has {counted:.1%} fewer than the {base:,} parameters of ResNet-18 in its "
        f"form for CIFAR. The formula's {counts[1]:,} would give {formula:.1%}, the stated "
        f"{counts[2]:,} {stated:.1%}.",
        f"Rounding to the last digit printed explains a difference of at most {100 * tolerance:g} "
        f"points. The claim comes nearest to the count of {near:,}.",
    )


def reduction_cause(reference: Reference, tolerance: float) -> Finding:
    """What halving ResNet-18's channels does alone, and what the deeper stages take back."""
    base, claimed = _by_hand(RESNET18), reference["reduction_reported"]
    halved = _by_hand(RESNET18 | {"widths": reference["widths"]})
    alone, whole = 1 - halved / base, 1 - _count(reference) / base
    blocks = [listed(each["blocks"]) for each in (RESNET18, reference)]
    return Finding(
        agreed(abs(alone - claimed) <= tolerance),
        f"Halving the channels alone takes away {alone:.1%}; more blocks then give back "
        f"{100 * (alone - whole):.1f} points. ResNet-18 with half its channels has {halved:,} "
        f"parameters, this network {_count(reference):,}.",
        f"ResNet-18 has {blocks[0]} blocks in its four stages, this network {blocks[1]}. Both "
        "were counted with 32 channels in the first stage.",
    )


def shortcut(reference: Reference) -> Finding:
    """Whether the printed count leaves room for batch norm after the shortcuts' convolutions."""
    norms = [
        sum(parameter.numel() for parameter in part.parameters())
        for name, part in _built(reference).named_modules()
        if "shortcut" in name and isinstance(part, torch.nn.BatchNorm2d)
    ]
    count, printed = _count(reference), reference["parameters"]
    return Finding(
        agreed(count - sum(norms) == printed),
        f"The printed {printed:,} parameters are {'' if count == printed else 'not '}those of "
        f"shortcuts with batch norm. Without it there would be {sum(norms):,} fewer.",
        f"Counted with and without the batch norm after the {len(norms)} convolutions in "
        "shortcuts. The notebook's code has it.",
    )


def layer_table(reference: Reference) -> Finding:
    """All rows of the printed layer table: layer, output shape and parameters."""
    table, printed = layers.layer_table(_built(reference)), reference["log"]["layer_table"]
    ours = zip(table["layer"], table["output"], table["parameters"], strict=True)
    rows = [(name.replace(*POOLING), math.prod(shape), count) for name, shape, count in ours]
    theirs = [(row["layer"], abs(math.prod(row["output"])), row["parameters"]) for row in printed]
    agree = sum(mine == its for mine, its in zip(rows, theirs, strict=False))
    name, _values, last = rows[-1]
    return Finding(
        agreed(agree == len(rows) == len(theirs)),
        f"{agree} of the {len(theirs)} printed rows agree with the network rebuilt here. The last "
        f"is {name} with {last:,} parameters.",
        "Compared are each layer's kind, the number of values it gives and its parameters. The "
        "table was made anew by following the shape of an image through the network. The notebook "
        f"prints all rows, the report {len(reference['layer_table_head'])} and the last.",
    )


def memory(reference: Reference) -> Finding:
    """The four numbers of the usual memory estimate for one image, to the two decimals printed."""
    stated, table = reference["memory_mb"], layers.layer_table(_built(reference))
    ours = layers.memory_estimate(table)
    values = [f"{ours[name]:.2f} MB {name.replace('_', ' and ')}" for name in stated]
    return Finding(
        agreed(all(round(ours[name], 2) == value for name, value in stated.items())),
        f"Computed anew: {listed(values)}, a MB being {2**20:,} bytes.",
        "Every layer's output is counted once for the forward and once for the backward pass, at "
        "4 bytes a value: an estimate of what is kept, not a measurement.",
    )


# fmt: off
TESTS = named(
    parameters_stated, parameters_formula, parameters_counted, reduction, reduction_cause, shortcut,
    layer_table, memory,
)
