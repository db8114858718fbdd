"""An ONNX file with weights and activations in eight bits: static quantisation by onnxruntime.

A value x becomes round(x / s) + z in eight bits. Weights are signed, with a scale s for each output
channel; activations are unsigned, with one s and z for each tensor, from the smallest and largest
value that the calibration images give (Jacob et al., CVPR 2018; onnxruntime's QDQ form).
"""

import tempfile
from pathlib import Path

import torch
from torch import Tensor

from bundle.deploy.export import INPUT
from bundle.files import write_atomically

BATCH = 100


class Batches:
    """Hands the calibration images, uint8 (N, 3, H, W), to onnxruntime, batch by batch."""

    def __init__(self, pixels: Tensor):
        self.waiting = iter(pixels.split(BATCH))

    def get_next(self) -> dict | None:
        """Return the next batch as onnxruntime takes it, None after the last."""
        batch = next(self.waiting, None)
        return None if batch is None else {INPUT: batch.numpy()}


def bits_of(weight_bits: str) -> int:
    """Return 7 or 8: what "auto" means on this processor.

    An x86 processor without VNNI adds two products of eight bits in sixteen, which overflows.
    """
    if weight_bits != "auto":
        return int(weight_bits)
    has = torch.cpu.get_capabilities()
    x86 = has.get("architecture") == "x86_64"
    return 7 if x86 and not (has.get("avx512_vnni") or has.get("avx_vnni")) else 8


def quantise(source: Path, target: Path, pixels: Tensor, weight_bits: int = 8) -> None:
    """Write `source` (ONNX, float32) with weights and activations in eight bits as `target`.

    Args:
        pixels: training images without augmentation, uint8 (N, 3, H, W); 500 to 1,000 are enough.
        weight_bits: 8, or 7 (see `bits_of`).
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        prepared, made = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            made,
            Batches(pixels),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            reduce_range=weight_bits == 7,
        )
        write_atomically(target, made.read_bytes())
