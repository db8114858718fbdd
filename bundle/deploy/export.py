"""The network as an ONNX file: raw pixels in, logits out, for any number of images.

The packages of requirements-deploy.txt are optional, so each is imported where it is needed.
"""

import warnings
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from bundle.deploy.fold import folded
from bundle.deploy.measure import session
from bundle.files import write_atomically
from lib.data import Statistics, normalise

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INPUT, OUTPUT = "pixels", "logits"
LARGEST_DIFFERENCE = 1e-4  # of a logit, between PyTorch and the file
BATCH = 250  # images a forward pass, where the number does not matter


def missing() -> list[str]:
    """Return the optional packages that are not here."""
    return [name for name in PACKAGES if find_spec(name) is None]


def versions() -> dict[str, str]:
    """Return the versions of the optional packages."""
    return {name: version(name) for name in PACKAGES}


class OnPixels(nn.Module):
    """A network with the normalisation inside: uint8 pixels (N, 3, H, W) to logits (N, classes)."""

    def __init__(self, network: nn.Module, statistics: Statistics):
        super().__init__()
        self.network, self.statistics = network, statistics

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits, float32."""
        return self.network(normalise(pixels.float() / 255, self.statistics))


def export(network: nn.Module, statistics: Statistics, path: Path) -> None:
    """Write the network, its batch norms folded, as one ONNX file with a dynamic batch."""
    example = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    with warnings.catch_warnings():
        # PyTorch 2.11 copies what it calls deprecated itself.
        warnings.filterwarnings("ignore", "`isinstance.treespec, LeafSpec.`", FutureWarning)
        program = torch.onnx.export(
            OnPixels(folded(network), statistics).eval(),
            (example,),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes={INPUT: {0: torch.export.Dim("batch")}},
            verbose=False,
        )
    assert program is not None  # with dynamo
    made = program.model_proto
    for node in made.graph.node:  # where in the source it comes from, with this machine's paths
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    write_atomically(path, made.SerializeToString())


def logits(path: Path, pixels: Tensor) -> Tensor:
    """Return the logits of an ONNX file, float32 (N, classes), for uint8 pixels (N, 3, H, W)."""
    running = session(path)
    parts = (running.run([OUTPUT], {INPUT: batch.numpy()})[0] for batch in pixels.split(BATCH))
    return torch.cat([torch.from_numpy(part) for part in parts])


def largest_difference(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference of two sets of logits (N, classes) of the same images.

    Raises AssertionError where it exceeds LARGEST_DIFFERENCE or an image gets another class.
    """
    difference = (ours - theirs).abs().max().item()
    changed = int((ours.argmax(1) != theirs.argmax(1)).sum())
    assert difference <= LARGEST_DIFFERENCE, f"a logit differs by {difference:.2g}"
    assert not changed, f"{changed} images get another class"
    return difference
