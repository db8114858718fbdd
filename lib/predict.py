"""Batched prediction, which gives logits, and the named views of test-time augmentation."""

from collections.abc import Callable, Sequence
from itertools import product

import pandas as pd
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from lib import compute, metrics
from lib.augment import gaussian_blur, pad
from lib.data import Images, Statistics, normalise
from lib.settings import SHIFTS

BATCH_SIZES = {"cpu": 500, "cuda": 5000}
VIEW_BLUR_SIGMA = 1.0  # pixels, as the reference's
VIEW_BLUR_REACH = 4  # pixels to each side, where SciPy's filter cuts
PATCH, PATCH_STEP = 8, 4  # pixels of the side of the grey patch of `occlusion`, and its step


def pad_center_crop(images: Tensor, padding: int = 4) -> Tensor:
    """Pad by `padding` zeros and cut the centre of the original size: this is the image itself."""
    height, width = images.shape[2:]
    return pad(images, padding)[:, :, padding : padding + height, padding : padding + width]


def spatial_blur(images: Tensor) -> Tensor:
    """Gaussian blur, sigma 1 pixel, over height and width."""
    sigma = torch.full((len(images),), VIEW_BLUR_SIGMA, device=images.device)
    return gaussian_blur(images, sigma, 2 * VIEW_BLUR_REACH + 1)


def mixed_blur(images: Tensor) -> Tensor:
    """Gaussian blur as the reference's code made it: it mixes colours and darkens.

    scipy.ndimage.gaussian_filter, sigma 1, on whole arrays (H, W, C) of uint8: also over the
    channel axis, and cut down to a whole level of 0 to 255 after each axis.
    """
    levels = (images * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    blurred = gaussian_filter(levels, (0, *[VIEW_BLUR_SIGMA] * 3))
    return torch.from_numpy(blurred).to(images.device).permute(0, 3, 1, 2).float() / 255


def shifted(images: Tensor, rows: int, columns: int) -> Tensor:
    """Move the content `rows` down, `columns` right (negative: up, left); reflect the border."""
    reach = max(abs(rows), abs(columns))
    height, width = images.shape[2:]
    top, left = reach - rows, reach - columns
    return pad(images, reach, "reflect")[:, :, top : top + height, left : left + width]


# Of the tables of `compare`.
SCORE_FORMS = {"accuracy": "{:.2%}", "low": "{:.2%}", "high": "{:.2%}", "p": metrics.p_value}
VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "original": lambda images: images,
    "horizontal_flip": lambda images: images.flip(3),
    "vertical_flip": lambda images: images.flip(2),
    "pad_center_crop": pad_center_crop,
    "gaussian_blur": spatial_blur,
    "gaussian_blur_mixed": mixed_blur,
    "shift_up_left": lambda images: shifted(images, -1, -1),
    "shift_down_right": lambda images: shifted(images, 1, 1),
    "shift_up_left_flip": lambda images: shifted(images, -1, -1).flip(3),
    "shift_down_right_flip": lambda images: shifted(images, 1, 1).flip(3),
}
_BESIDE_BLUR = ("original", "horizontal_flip", "vertical_flip", "pad_center_crop")
COMBINATIONS: dict[str, tuple[str, ...]] = {
    "original": ("original",),
    "flip": ("original", "horizontal_flip"),
    "shifts": ("original", "horizontal_flip", *SHIFTS),
    "report": (*_BESIDE_BLUR, "gaussian_blur_mixed"),
    "report_spatial": (*_BESIDE_BLUR, "gaussian_blur"),
}
MEAN_OF_LOGITS = ("report", "report_spatial")  # the others are means of probabilities


@torch.inference_mode()
def logits(
    model: nn.Module,
    pixels: Tensor,
    statistics: Statistics,
    view: str = "original",
    precision: str = "fp32",
    batch_size: int = 0,
) -> Tensor:
    """Return the network's logits, float32 (N, classes) on the model's device.

    Args:
        model: put into evaluation mode for the call, and back.
        pixels: uint8 (N, 3, H, W), on any device; moved batch by batch.
        view: a key of VIEWS, applied to the image in [0, 1], before normalisation.
        batch_size: images a forward pass; 0 takes BATCH_SIZES of the device.
    """
    device, training = next(model.parameters()).device, model.training
    model.eval()
    parts = []
    for batch in pixels.split(batch_size or BATCH_SIZES[device.type]):
        images = normalise(VIEWS[view](batch.to(device).float() / 255), statistics)
        with compute.autocast(device, precision):
            parts.append(model(images.contiguous(memory_format=torch.channels_last)).float())
    model.train(training)
    return torch.cat(parts)


def occlusion(
    model: nn.Module, pixels: Tensor, classes: Tensor, statistics: Statistics, scale: float = 1.0
) -> Tensor:
    """Return which parts of images speak for a class: float32 (N, H, W) on the CPU, -1 to 1.

    A patch of the mean colour hides one place after another, also over the border (Zeiler and
    Fergus, ECCV 2014, section 4.2). A pixel has the mean fall of the class's probability over the
    patches that cover it: below 0 the class becomes more probable without that part.

    Args:
        pixels, statistics: as for `logits`; pixels on the CPU.
        classes: int64 (N,), the class of each image whose probability is followed.
        scale: divides the logits before the softmax: a temperature.
    """
    places, each = _places(*pixels.shape[2:]), torch.arange(len(pixels))
    shown = pixels.repeat(len(places) + 1, 1, 1, 1, 1)  # (1 + places, N, 3, H, W), the first whole
    for copy, place in zip(shown[1:], places, strict=True):
        copy[..., *place] = (255 * torch.tensor(statistics.mean)).round().byte()[:, None, None]
    given = (logits(model, shown.flatten(0, 1), statistics).cpu() / scale).softmax(1)
    share = given.view(len(shown), len(pixels), -1)[:, each, classes]
    falls = torch.zeros(len(pixels), *pixels.shape[2:])
    for hidden, place in zip(share[1:], places, strict=True):
        falls[:, *place] += (share[0] - hidden)[:, None, None]
    return falls / (PATCH // PATCH_STEP) ** 2


def _places(height: int, width: int) -> list[tuple[slice, slice]]:
    """Return the rows and columns of every patch, so that each pixel lies in equally many."""
    starts = (range(PATCH_STEP - PATCH, size, PATCH_STEP) for size in (height, width))
    rows, columns = ([slice(max(at, 0), at + PATCH) for at in each] for each in starts)
    return list(product(rows, columns))


def distinct_views(pixels: Tensor, views: Sequence[str]) -> dict[str, str]:
    """Return view -> the first of `views` that gives the same images, by comparing all `pixels`."""
    same: dict[str, str] = {}
    for view in views:
        seen = dict.fromkeys(same.values())
        same[view] = next((one for one in seen if _equal_on(pixels, one, view)), view)
    return same


def _equal_on(pixels: Tensor, first: str, second: str) -> bool:
    """Whether two views agree on every image; most that do not differ in the first batch."""
    batches = (batch.float() / 255 for batch in pixels.split(500))
    return all(torch.equal(VIEWS[first](images), VIEWS[second](images)) for images in batches)


def view_logits(
    model: nn.Module, images: Images, views: Sequence[str], statistics: Statistics, precision: str,
    batch_size: int,
) -> dict[str, Tensor]:  # fmt: skip
    """Return the logits of each view on the CPU; a view that equals another is computed once."""
    pixels = images.pixels.to(next(model.parameters()).device)
    same = distinct_views(pixels, views)
    computed = {
        view: logits(model, pixels, statistics, view, precision, batch_size).cpu()
        for view in dict.fromkeys(same.values())
    }
    return {view: computed[same[view]] for view in views}


def combine(by_view: dict[str, Tensor], combination: str) -> Tensor:
    """Return the probabilities of a combination of views, (N, classes); each row sums to 1.

    They are the mean of the views' probabilities. For MEAN_OF_LOGITS they are the softmax of the
    mean logits, as in the reference's code. What to average, the report does not say; so the two
    differ by their blur alone.
    """
    views = [by_view[view] for view in COMBINATIONS[combination]]
    if combination in MEAN_OF_LOGITS:
        return torch.stack(views).mean(0).softmax(1)
    return torch.stack([logits.softmax(1) for logits in views]).mean(0)


def available(views: Sequence[str]) -> list[str]:
    """Return the names of the combinations that these views allow."""
    return [name for name, parts in COMBINATIONS.items() if set(parts) <= set(views)]


def compare(predictions: dict[str, Tensor], labels: Tensor) -> pd.DataFrame:
    """Return each (N,) predictions' accuracy with interval, and its paired test against the first.

    One row a name; columns accuracy, low, high (fractions), gained, lost (images that became right,
    wrong) and p (McNemar); the first row is not compared with itself.
    """
    rows: dict[str, tuple] = {}
    for name, predicted in predictions.items():
        score = metrics.accuracy(predicted, labels)
        paired = metrics.mcnemar(next(iter(predictions.values())), predicted, labels)
        test = (paired.only_second, paired.only_first, paired.p) if rows else (None, None, None)
        rows[name] = (score.accuracy, score.low, score.high, *test)
    columns = ["accuracy", "low", "high", "gained", "lost", "p"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("views")
