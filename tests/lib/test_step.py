"""Step and epoch: loss, optimiser, batches by hand; compilation; nothing waits for the device."""

import dataclasses
import math
import shutil

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from lib import blocks, compute, data, model, optimise, schedule, step, trivial
from lib.settings import Train

TINY = Train(
    run="tiny",
    dataset="digits",
    blocks=(1, 1),
    widths=(8, 16),
    strides=(1, 2),
    batch_size=20,
    learning_rate=0.05,
    device="cpu",
)
PLAIN = dataclasses.replace(
    TINY, momentum=0.0, weight_decay=0.0, crop_padding=0, horizontal_flip=0.0, cutmix=0.0
)
RICH = dataclasses.replace(
    TINY,
    trivial_augment=0.7,
    blur=0.5,
    erasing=0.5,
    vertical_flip=0.1,
    cutmix=0.4,
    mixup=0.4,
    flip_mode="alternating",
    crop_mode="reflect",
    label_smoothing=0.1,
)


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return data.load("digits", None, 130)


def network(seed: int = 0) -> model.ResNet:
    return model.build(TINY, 10, seed)


def batches(digits, recipe=TINY, epoch=0, seed=7) -> list[step.Batch]:
    return list(step.prepared_batches(digits.train, recipe, epoch, digits.statistics, seed))


def test_mixed_loss_by_hand():
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]])
    labels, partners, lam = torch.tensor([0, 2]), torch.tensor([1, 0]), torch.tensor([0.75, 1.0])
    sums = [math.log(sum(math.exp(value) for value in row)) for row in logits.tolist()]
    first = 0.75 * (sums[0] - 2.0) + 0.25 * (sums[0] - 0.0)
    second = sums[1] - 3.0
    loss = step.mixed_cross_entropy(logits, labels, partners, lam, 0.0)
    assert loss.item() == pytest.approx((first + second) / 2, rel=1e-6)
    soft = lam[:, None] * F.one_hot(labels, 3) + (1 - lam[:, None]) * F.one_hot(partners, 3)
    smoothed = step.mixed_cross_entropy(logits, labels, partners, lam, 0.1)
    assert smoothed.item() == pytest.approx(
        F.cross_entropy(logits, soft, label_smoothing=0.1).item(), rel=1e-6
    )


def test_decay_spares_vectors_only_where_asked():
    vectors = sum(parameter.numel() for parameter in network().parameters() if parameter.dim() == 1)
    groups = optimise.make_optimiser(
        network(), dataclasses.replace(TINY, decay_all=False)
    ).param_groups
    assert [group["weight_decay"] for group in groups] == [TINY.weight_decay, 0.0]
    assert (
        sum(parameter.numel() for parameter in groups[1]["params"])
        == vectors
        == 2 * (8 * 3 + 16 * 3) + 10
    )
    assert len(optimise.make_optimiser(network(), TINY).param_groups) == 1


def test_one_step_is_sgd_by_hand(digits):
    """Without momentum and decay: weight - rate * gradient, the gradient from plain PyTorch."""
    ours, twin = network(), network()
    batch = batches(digits, PLAIN)[0]
    loss, hits = step.train_step(
        ours, step.loss_function(ours, "fp32"), optimise.make_optimiser(ours, PLAIN), batch, PLAIN
    )
    logits = twin(batch.images)
    expected = F.cross_entropy(logits, batch.labels)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert hits.item() == pytest.approx((logits.argmax(1) == batch.labels).float().mean().item())
    for mine, other in zip(ours.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(
            mine, other - PLAIN.learning_rate * other.grad, rtol=1e-4, atol=1e-6
        )


def test_every_image_once_an_epoch_in_another_order(digits, monkeypatch):
    """Also over several groups and a smaller last batch; the images tell which they are."""
    monkeypatch.setattr(step, "GROUP_IMAGES", 50)  # two batches of 20
    raw = data.normalise(digits.train.pixels.float() / 255, digits.statistics)
    known = {image.numpy().tobytes() for image in raw}
    orders = []
    for epoch in (0, 1, 0):
        drawn = batches(digits, PLAIN, epoch)
        assert [len(batch) for batch in drawn] == [20] * (len(digits.train) // 20) + [
            len(digits.train) % 20
        ]
        orders.append(
            [image.contiguous().numpy().tobytes() for batch in drawn for image in batch.images]
        )
    assert len(known) == len(digits.train) and all(set(order) == known for order in orders)
    assert orders[0] == orders[2] != orders[1]


def test_images_keep_their_labels(digits):
    raw = data.normalise(digits.train.pixels.float() / 255, digits.statistics)
    label = {
        image.numpy().tobytes(): int(label)
        for image, label in zip(raw, digits.train.labels, strict=True)
    }
    for batch in batches(digits, PLAIN):
        assert [
            label[image.contiguous().numpy().tobytes()] for image in batch.images
        ] == batch.labels.tolist()


@pytest.mark.parametrize(("share", "small"), [(0.0, 0), (0.5, 5), (0.6, 6), (1.0, 10)])
def test_the_first_share_of_the_training_sees_means_of_four_pixels(
    digits, monkeypatch, share, small
):
    """Two epochs of five groups, a batch each; the halved images are the whole ones' means."""
    monkeypatch.setattr(step, "GROUP_IMAGES", TINY.batch_size)
    whole = dataclasses.replace(TINY, epochs=2)
    recipe = dataclasses.replace(whole, half_resolution=share)
    few = digits.train.take(torch.arange(5 * TINY.batch_size))

    def seen(recipe):
        epochs = (step.prepared_batches(few, recipe, n, digits.statistics, 7) for n in (0, 1))
        return [batch.images for epoch in epochs for batch in epoch]

    shown, full = seen(recipe), seen(whole)
    assert [images.shape[-1] for images in shown] == small * [16] + (10 - small) * [32]
    for one, other in zip(shown[:small], full, strict=False):
        corners = [other[..., row::2, column::2] for row in (0, 1) for column in (0, 1)]
        assert torch.allclose(one, torch.stack(corners).mean(0), atol=1e-6)
    assert all(map(torch.equal, shown[small:], full[small:]))


def test_only_the_first_phase_begins_at_half_resolution():
    both = schedule.phases(dataclasses.replace(TINY, half_resolution=0.5, phase2_epochs=3))
    assert [phase.recipe.half_resolution for phase in both] == [0.5, 0.0]


def test_alternating_flips_show_each_image_both_ways_in_turn():
    epochs = [step.alternating_flips(1000, epoch, 3, "cpu") for epoch in range(4)]
    assert torch.equal(epochs[0], ~epochs[1]) and torch.equal(epochs[0], epochs[2])
    assert torch.equal(epochs[1], epochs[3])
    assert 400 < int(epochs[0].sum()) < 600
    assert not torch.equal(epochs[0], step.alternating_flips(1000, 0, 4, "cpu"))


def test_alternating_flips_reach_the_images(digits):
    recipe = dataclasses.replace(PLAIN, flip_mode="alternating", horizontal_flip=0.5)
    seen = [{}, {}]
    for epoch in (0, 1):
        for batch in batches(digits, recipe, epoch):
            for image in batch.images.contiguous():
                mirrored = image.flip(2).contiguous().numpy().tobytes()
                seen[epoch][image.numpy().tobytes()] = mirrored
    symmetric = {image for image, mirrored in seen[0].items() if image == mirrored}
    assert set(seen[0].values()) - symmetric == set(seen[1]) - symmetric


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no compiler for the compiled kernels")
def test_compiled_kernels_give_finite_gradients_in_bf16():
    """They keep more digits of a value than they store: no backward pass may look for equals."""
    torch.manual_seed(1)
    images, filters = torch.randn(20, 3, 12, 12), torch.randn(8, 3, 3, 3)

    def pooled(weight):
        with compute.autocast(images.device, "bf16"):
            maps = F.batch_norm(F.conv2d(images, weight), None, None, training=True)
            return blocks.GlobalMaxPool()(F.gelu(maps))

    gradients = []
    for function in (pooled, torch.compile(pooled)):
        weight = filters.clone().requires_grad_()
        function(weight).square().sum().backward()
        gradients.append(weight.grad.flatten())
    assert F.cosine_similarity(*gradients, 0) > 0.95  # a NaN is not


@pytest.mark.slow
def test_compiled_step_has_one_graph_and_the_same_gradients(digits, monkeypatch):
    """The compiled forward pass must not break up; a compiler without code generation tells."""
    calls = []

    def compiled(function):
        traced = torch.compile(function, backend="aot_eager", fullgraph=True, dynamic=False)

        def call(*arguments):
            calls.append(len(arguments[0]))
            return traced(*arguments)

        return call

    monkeypatch.setattr(compute, "compiled", compiled)
    ours, twin, drawn = network(), network(), batches(digits, RICH)
    for batch in (drawn[0], drawn[-1]):
        for mine, fast in ((ours, True), (twin, False)):
            mine.zero_grad(set_to_none=True)
            loss, hits = step.loss_function(mine, "bf16", fast)(batch, RICH)
            loss.backward()
            assert 0 <= hits <= 1
        for one, other in zip(ours.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(
                one.grad, other.grad, rtol=0.02, atol=0.02 * float(other.grad.abs().max())
            )
    assert calls == [20]  # the smaller last batch is not compiled


class NoWaiting(TorchDispatchMode):
    """Fails at what makes a processor wait for a GPU: reading a value, a shape from values."""

    FORBIDDEN = (
        "_local_scalar_dense",
        "nonzero",
        "masked_select",
        "is_nonzero",
        "equal",
        "unique",
        "bincount",
    )

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        name = function.overloadpacket.__name__
        assert name not in self.FORBIDDEN, f"{name} waits for the device"
        indices = arguments[1] if name in ("index", "index_put_", "index_put") else []
        assert not any(one is not None and one.dtype == torch.bool for one in indices), (
            "indexed by a mask"
        )
        return function(*arguments, **(named or {}))


def test_no_step_waits_for_the_device(digits):
    # Draws on the processor, see the next test.
    recipe = dataclasses.replace(RICH, trivial_augment=0.0)
    mine = network()
    optimiser, loss_of = optimise.make_optimiser(mine, recipe), step.loss_function(mine, "fp32")
    sums = 0
    with NoWaiting():
        for batch in step.prepared_batches(digits.train, recipe, 0, digits.statistics, 7):
            sums = sums + step.train_step(mine, loss_of, optimiser, batch, recipe) * len(batch)
    assert sums.shape == (2,)
    with pytest.raises(AssertionError, match="waits"), NoWaiting():
        sums[0].item()


def test_trivial_augment_reads_nothing_from_the_device():
    """Images without values ("meta") stand for those on a GPU: reading one would be an error."""
    images = torch.empty(300, 3, 32, 32, dtype=torch.uint8, device="meta")
    assert trivial.trivial_augment(images, 0.9, step.generator_of(1, 0)).shape == images.shape
