"""TrivialAugmentWide and AugMix over a batch: the operations of torchvision, vectorised for each.

Müller & Hutter, TrivialAugment, ICCV 2021: one operation and one magnitude per image, each drawn
uniformly. The values are those of torchvision.transforms.TrivialAugmentWide (31 bins, nearest
neighbour, black outside). Draws are made on the CPU, since the sizes of the groups must be known
there and asking a GPU would wait for it; after that nothing reads back from the device.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

BINS = 31
SPACE = {  # operation: magnitude at the first and at the last bin, whether a sign is drawn
    "Identity": (0.0, 0.0, False),
    "ShearX": (0.0, 0.99, True),  # tangent of the angle
    "ShearY": (0.0, 0.99, True),
    "TranslateX": (0.0, 32.0, True),  # pixels, cut off to whole ones
    "TranslateY": (0.0, 32.0, True),
    "Rotate": (0.0, 135.0, True),  # degrees, counter-clockwise
    "Brightness": (0.0, 0.99, True),
    "Color": (0.0, 0.99, True),
    "Contrast": (0.0, 0.99, True),
    "Sharpness": (0.0, 0.99, True),
    "Posterize": (8.0, 2.0, False),  # bits that stay, whole
    "Solarize": (255.0, 0.0, False),  # inverted from this value on
    "AutoContrast": (0.0, 0.0, False),
    "Equalize": (0.0, 0.0, False),
}
IDENTITY, *GEOMETRY = range(6)  # positions in SPACE
AUGMIX = {  # as SPACE, over ten bins, of which severity 3 takes the first three
    "ShearX": (0.0, 0.3, True),
    "ShearY": (0.0, 0.3, True),
    "TranslateX": (0.0, 32 / 3, True),
    "TranslateY": (0.0, 32 / 3, True),
    "Rotate": (0.0, 30.0, True),
    "Posterize": (4.0, 0.0, False),
    "Solarize": (255.0, 0.0, False),
    "AutoContrast": (0.0, 0.0, False),
    "Equalize": (0.0, 0.0, False),
}
AUGMIX_BINS, CHAINS, DEPTH = (10, 3), 3, 3


class Plan(NamedTuple):
    """Each image's fate (on the CPU): place in SPACE int64 (N,), signed magnitude float32 (N,)."""

    operation: Tensor
    magnitude: Tensor


def draw(
    count: int, probability: float, generator: Generator,
    space: dict[str, tuple[float, float, bool]] = SPACE, bins: tuple[int, int] = (BINS, BINS),
) -> Plan:  # fmt: skip
    """Draw for each of `count` images operation, bin, sign; identity without `probability`.

    `generator` is one of the CPU; how many numbers it gives depends on `count` only. bins: over how
    many a range in `space` reaches, and of how many, the first, one is drawn.
    """
    table = torch.stack([torch.linspace(low, high, bins[0]) for low, high, _ in space.values()])
    table[list(space).index("Posterize")].round_()
    row = torch.randint(len(space), (count,), generator=generator)
    position = torch.randint(bins[1], (count,), generator=generator)
    negative = torch.randint(2, (count,), generator=generator).bool()
    augmented = torch.rand(count, generator=generator) < probability
    signed = torch.tensor([signed for *_, signed in space.values()])[row]
    magnitude = torch.where(augmented, table[row, position], 0.0)
    operation = torch.tensor([list(SPACE).index(name) for name in space])[row]
    operation = torch.where(augmented, operation, IDENTITY)
    return Plan(operation, torch.where(signed & negative & augmented, -magnitude, magnitude))


def _move(values: Tensor, images: Tensor) -> Tensor:
    # A copy of pageable memory may make the host wait for the GPU, one of pinned memory never.
    values = values.pin_memory() if images.is_cuda else values
    return values.to(images.device, non_blocking=True)


def _matrices(plan: Plan, height: int, width: int) -> Tensor:
    # (n, 2, 3) float32, from target to source pixels around the centre; shears keep the corner.
    magnitude = plan.magnitude.double()
    parts = (torch.where(plan.operation == operation, magnitude, 0.0) for operation in GEOMETRY)
    shear_x, shear_y, shift_x, shift_y, degrees = parts
    cosine, sine = degrees.deg2rad().cos(), degrees.deg2rad().sin()
    row_x = [cosine, shear_x - sine, shear_x * height / 2 - shift_x.trunc()]
    row_y = [shear_y + sine, cosine, shear_y * width / 2 - shift_y.trunc()]
    return torch.stack(row_x + row_y, 1).float().view(-1, 2, 3)


def _geometry(images: Tensor, plan: Plan) -> Tensor:
    # Element by element: a matrix product would follow TF32 or autocast, too coarse for a position.
    height, width = images.shape[2:]
    scaled = _matrices(plan, height, width) / torch.tensor([[width / 2], [height / 2]])
    from_x, from_y, offset = _move(scaled, images)[:, None, None].unbind(-1)
    x, y = (torch.arange(size, device=images.device) - (size - 1) / 2 for size in (width, height))
    grid = x[:, None] * from_x + y[:, None, None] * from_y + offset
    return F.grid_sample(images.float(), grid, mode="nearest", align_corners=False).to(torch.uint8)


def _blend(images: Tensor, other: Tensor, plan: Plan) -> Tensor:
    # Torchvision's Python floats are rounded to float32 after 1 - ratio only.
    ratio = 1 + plan.magnitude.double()
    own, rest = _move(torch.stack([ratio, 1 - ratio]).float()[..., None, None, None], images)
    return (own * images + rest * other).clamp(0, 255).to(torch.uint8)


def _brightness(images: Tensor, plan: Plan) -> Tensor:
    return _blend(images, torch.zeros_like(images), plan)


def _grey(images: Tensor) -> Tensor:
    # As torchvision.transforms.functional.rgb_to_grayscale; that package takes long to load.
    red, green, blue = images.unbind(1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).to(torch.uint8).unsqueeze(1)


def _color(images: Tensor, plan: Plan) -> Tensor:
    return _blend(images, _grey(images), plan)


def _contrast(images: Tensor, plan: Plan) -> Tensor:
    return _blend(images, _grey(images).float().mean((1, 2, 3), keepdim=True), plan)


def _sharpness(images: Tensor, plan: Plan) -> Tensor:
    # Not a convolution as torchvision's (ones around a 5), which may use TF32: these sums are
    # exact, and thirteenths lie too far from a half for rounding to differ.
    pixels = images.float()
    inner = (..., slice(1, -1), slice(1, -1))
    smooth = pixels.clone()
    around = F.avg_pool2d(pixels, 3, 1, divisor_override=1)
    smooth[inner] = ((around + 4 * pixels[inner]) / 13).round()
    return _blend(images, smooth, plan)


def _posterize(images: Tensor, plan: Plan) -> Tensor:
    mask = (256 - 2 ** (8 - plan.magnitude)).to(torch.uint8)
    return images & _move(mask[:, None, None, None], images)


def _solarize(images: Tensor, plan: Plan) -> Tensor:
    threshold = _move(plan.magnitude[:, None, None, None], images)
    return torch.where(images >= threshold, 255 - images, images)


def _autocontrast(images: Tensor, plan: Plan) -> Tensor:
    # Not torchvision.transforms.v2's, which divides by (high - low) / 255, unlike version 1.
    low, high = (extreme((2, 3), keepdim=True).float() for extreme in (images.amin, images.amax))
    stretched = (images - low) * (255 / (high - low).clamp(min=1))
    return torch.where(low == high, images, stretched.clamp(0, 255).to(torch.uint8))


def _equalize(images: Tensor, plan: Plan) -> Tensor:
    # Sorted: counting with scatter_add_, as torchvision.transforms.v2 does, becomes index_put_
    # under deterministic algorithms on CUDA, which in some versions of PyTorch reads the range of
    # its index back.
    pixels = images.flatten(2)
    levels = torch.arange(256, dtype=torch.uint8, device=images.device).repeat(*pixels.shape[:2], 1)
    below = torch.searchsorted(pixels.sort(2).values, levels)  # pixels darker than each level
    step = below.gather(2, pixels.amax(2, keepdim=True).long()) // 255
    table = ((below + step // 2) // step.clamp(min=1)).clamp(max=255).to(torch.uint8)
    return torch.where(step == 0, pixels, table.gather(2, pixels.long())).view_as(images)


# fmt: off
KERNELS = (
    lambda images, plan: images, _geometry, _brightness, _color, _contrast, _sharpness,
    _posterize, _solarize, _autocontrast, _equalize,
)
# fmt: on


def apply(images: Tensor, plan: Plan) -> Tensor:
    """Carry out `plan` on uint8 images (N, 3, H, W), H, W at least 3, any device; a new batch.

    Bit-identical with torchvision image by image: at 32 x 32 no position falls within 5e-5 pixels
    of the border between two pixels, where rounding could decide, but for some at 45 and 135
    degrees that lie exactly on it.

    Images are put in the order of their operations, so that each operation is one call on a slice;
    the five of geometry are one, with a matrix per image. For 2,048 images (one CPU core) a call of
    torchvision's per operation and magnitude took 2.7 times as long, a call per image 5.6 times.
    """
    order = plan.operation.argsort(stable=True)
    identity, *counts = plan.operation.bincount(minlength=len(SPACE)).tolist()
    sizes = [identity, sum(counts[: len(GEOMETRY)]), *counts[len(GEOMETRY) :]]
    groups = images.index_select(0, _move(order, images)).split(sizes)
    plans = zip(*(part[order].split(sizes) for part in plan), strict=True)
    calls = zip(KERNELS, groups, plans, strict=True)
    changed = torch.cat([kernel(group, Plan(*part)) for kernel, group, part in calls])
    return changed.index_select(0, _move(order.argsort(), images))


def trivial_augment(images: Tensor, probability: float, generator: Generator) -> Tensor:
    """Augment each image with `probability` (one in 14 by the identity); a new batch.

    images: as for `apply`; generator: one of the CPU, also for images on a GPU (see `draw`).
    """
    return apply(images, draw(len(images), probability, generator))


def augmix(images: Tensor, probability: float, generator: Generator) -> Tensor:
    """Mix each image with three chains of one to three operations on it; a new batch.

    Hendrycks et al., AugMix (ICLR 2020), algorithm 1, severity 3, without its loss; operations and
    magnitudes as torchvision.transforms.AugMix(all_ops=False). Arguments as of `trivial_augment`.
    """
    count = len(images)
    mixed = torch.rand(count, generator=generator) < probability
    share = torch.rand(count, generator=generator) * mixed  # Beta(1, 1), that of the chains
    weights = torch._sample_dirichlet(torch.ones(count, CHAINS), generator=generator)
    weights = torch.cat([1 - share[:, None], weights * share[:, None]], 1).T
    first, *others = _move(weights[..., None, None, None].contiguous(), images)
    result = first * images
    for weight in others:
        changed, depth = images, torch.randint(1, DEPTH + 1, (count,), generator=generator)
        for step in range(DEPTH):
            plan = draw(count, 1.0, generator, AUGMIX, AUGMIX_BINS)
            operation = torch.where(step < depth, plan.operation, IDENTITY)
            changed = apply(changed, Plan(operation, plan.magnitude))
        result += weight * changed
    return result.round().to(torch.uint8)
