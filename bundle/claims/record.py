"""Claims on what the notebook contains, judged by the facts collected in docs/reference.json."""

import torch

from bundle.claims.claim import Finding, Reference, agreed, named
from bundle.words import listed


def mentioned_methods(reference: Reference) -> Finding:
    """Methods that the report names and that the notebook does not contain."""
    missing = reference["notebook"]["mentioned_but_not_in_it"]
    return Finding(
        agreed(not missing),
        f"Missing from the notebook: {listed(missing) or 'none of them'}.",
        "The report names both, AutoAugment as its reference [1]; here that is taken to say that "
        "they were used. What the notebook's augmentation does contain stands in "
        "docs/reference.md.",
    )


def pooling_is_a_mean() -> bool:
    """Whether PyTorch pools adaptively to 1x1 by a mean, whose backward pass is deterministic."""
    images = torch.zeros(1, 1, 4, 4, requires_grad=True)
    return "Mean" in type(torch.nn.functional.adaptive_avg_pool2d(images, 1).grad_fn).__name__


def determinism(reference: Reference) -> Finding:
    """Which of PyTorch's switches for equal bits the notebook sets.

    Refuted is the reason that the report gives, by the notebook itself. Whether two trainings of it
    would differ stays open (nobody trained twice), and is no part of the verdict.
    """
    notebook = reference["notebook"]
    switches = {"seeds_set": "the seeds", "cudnn_deterministic": "cuDNN's flag"}
    done = listed(words for key, words in switches.items() if notebook[key])
    pooling = (
        " Its adaptive average pooling, whose backward pass is not deterministic on CUDA, does no "
        "harm: to 1x1, PyTorch computes a mean."
    )
    on = notebook["deterministic_algorithms"]
    return Finding(
        agreed(on),
        f"The notebook sets {done}; PyTorch's deterministic algorithms are{' not' * (not on)} "
        "turned on.",
        "Judged is the stated reason, deterministic algorithms. Whether two trainings would have "
        "differed is undecided: one is reported. cuDNN's flag covers cuDNN's own operations, and "
        "no switch gives equal bits on another GPU; the notebook ran on "
        f"{notebook['device']}.{pooling * pooling_is_a_mean()}",
    )


def notebook_ran(reference: Reference) -> Finding:
    """Whether the published notebook can have given its own plots."""
    notebook = reference["notebook"]
    return Finding(
        agreed(notebook["execution_counts"] and notebook["fills_the_lists_it_plots"]),
        f"Its code {'fills' if notebook['fills_the_lists_it_plots'] else 'never fills'} the lists "
        f"that its plots draw, and its cells have {'' if notebook['execution_counts'] else 'no '}"
        "execution counts.",
        "Plots of lists that are never filled came from other code, or from cells that were "
        "changed or removed afterwards.",
    )


def captions(reference: Reference) -> Finding:
    """What Figures 3 to 5 are called against what they show."""
    said = reference["captions"]
    start, end = ("-".join(map(str, said[key])) for key in ("called_start", "called_end"))
    swapped = said["called_start"][0] > said["called_end"][0]
    cutmix, tta = "CutMix" in said["words"], "TTA" in said["words"]
    return Finding(
        agreed(not (swapped or cutmix or tta)),
        f"The figure called start shows epochs {start} and the one called end {end}. "
        f"Figure {said['figures'][-1]} shows the test set, and neither CutMix nor test-time "
        "augmentation was at work in any of them.",
        "The notebook calls no CutMix function, and averages views for the competition's images "
        "alone.",
    )


TESTS = named(mentioned_methods, determinism, notebook_ran, captions)
