"""The benchmarks: the baseline against the reference, arithmetic on made-up times, a rehearsal.

Nothing here is judged by the clock.
"""

import json
import random
import shutil
import socket

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import (
    baseline,
    cluster,
    limits,
    machine,
    plan,
    prediction,
    readme,
    run,
    table,
    timing,
)
from bundle.paths import ROOT
from bundle.readme import marks
from bundle.report.anchors import Result, Score
from lib import predict
from lib.data import CIFAR10_STATISTICS, Dataset, Images, normalise
from lib.errors import UserError, exit_on_user_error
from lib.model import ResNet
from tests.conftest import Bundle


@pytest.fixture(scope="module")
def images() -> Images:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return Images(pixels, torch.arange(6) % 10, torch.arange(6))


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Bundle:
    made = Bundle(tmp_path_factory.mktemp("benchmarks") / "bundle")
    ignored = shutil.ignore_patterns("__pycache__", "results")
    shutil.copytree(ROOT / "benchmarks", made.folder / "benchmarks", ignore=ignored)
    return made


@pytest.fixture(scope="module")
def rehearsed(copy, cifar10_root):
    """The table that a rehearsal prints, and its JSON."""
    done = copy.run("benchmarks.run", "--quick", CIFAR10_ROOT=str(cifar10_root))
    assert done.returncode == 0, done.stdout + done.stderr
    (written,) = copy.results("bench").glob("*.json")
    return done.stdout, written


def test_each_part_has_rows_without_the_others():
    kept = (ROOT / "benchmarks" / "results").glob("cpu-2-*.json")
    parts = [(name, part) for path in kept for name, part in json.loads(path.read_text()).items()]
    measured = dict(parts) | {"kept": {"cpu": {"gain": timing.spread([1.2])}}}
    alone = [table.rows({name: part}) for name, part in measured.items() if name in table.SECTIONS]
    assert len(alone) == len(table.SECTIONS) and all(alone)
    assert sorted(table.rows(measured)) == sorted(row for rows in alone for row in rows)


def test_chosen_parts_are_measured_alone_and_told(copy, cifar10_root):
    options = {"CIFAR10_ROOT": str(cifar10_root)}
    done = copy.run("benchmarks.run", "views", "--quick", **options)
    written = next(copy.results("bench").glob("*-views-quick.json"))
    found = json.loads(written.read_text())
    assert "views" in found and not {"training", "memory", "limits"} & found.keys()
    assert done.returncode == 0 and "Five views : the single view" in done.stdout
    assert not written.with_suffix(".svg").exists() and written.name in done.stdout
    written.unlink()
    refused = copy.run("benchmarks.run", "view", "--quick", **options)
    assert refused.returncode == 2 and "no part view of a benchmark" in refused.stderr
    assert list(run._parts(plan.PLANS["quick"], None, None, True)) == list(run.PARTS)


# The baseline


def test_a_training_image_by_hand(monkeypatch):
    monkeypatch.setattr(random, "random", lambda: 0.99)  # no blur
    transform = baseline.train_transform(CIFAR10_STATISTICS)
    white = Image.new("RGB", (32, 32), "white")
    mean, std = (
        torch.tensor(part)[:, None, None]
        for part in (CIFAR10_STATISTICS.mean, CIFAR10_STATISTICS.std)
    )
    for _draw in range(20):
        found = transform(white)
        assert found.shape == (3, 32, 32) and found.dtype == torch.float32
        levels = found * std + mean
        # Black padding, white image.
        torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-6)
        assert levels[:, 2:-2, 2:-2].min() > 0.99  # at most two rows and columns of padding: 36x36


def test_flips_as_often_as_the_report_says(monkeypatch):
    monkeypatch.setattr(random, "random", lambda: 0.99)
    torch.manual_seed(0)
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16, :16] = 255  # upper left
    found = torch.stack(
        [baseline.train_transform(CIFAR10_STATISTICS)(Image.fromarray(pixels)) for _ in range(1000)]
    )
    left = found[:, 0, :, 4:12].mean((1, 2)) > found[:, 0, :, 20:28].mean((1, 2))
    top = found[:, 0, 4:12].mean((1, 2)) > found[:, 0, 20:28].mean((1, 2))
    assert left.float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert top.float().mean().item() == pytest.approx(0.95, abs=0.03)


def test_blurs_three_in_ten():
    random.seed(0)
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[16, 16] = 255
    image, blur = Image.fromarray(pixels), baseline.RandomBlur()
    levels = [np.asarray(blur(image))[16, 16, 0] for _draw in range(2000)]
    assert np.mean([level < 255 for level in levels]) == pytest.approx(0.3, abs=0.06)


def test_cutmix_mixes_labels_by_the_area_it_pasted():
    torch.manual_seed(0)
    labels = torch.arange(8)
    images = labels[:, None, None, None].float().expand(8, 3, 32, 32)
    for seed in range(20):
        mixed, partners, lam = baseline.cutmix(
            images, labels, np.random.default_rng(seed), probability=1.0
        )
        pasted = mixed != images
        others = partners != labels
        assert torch.equal(
            mixed[pasted], partners[:, None, None, None].float().expand_as(mixed)[pasted]
        )
        assert pasted[others].float().mean((1, 2, 3)).tolist() == pytest.approx(
            [1 - lam] * int(others.sum())
        )
    same, partners, lam = baseline.cutmix(images, labels, np.random.default_rng(0), probability=0.0)
    assert same is images and partners is labels and lam == 1.0


def test_five_views_equal_ours(images):
    shown, names = prediction.pictures(images.pixels), predict.COMBINATIONS[plan.VIEWS]
    for name, view in zip(names, baseline.views(CIFAR10_STATISTICS), strict=True):
        ours = normalise(predict.VIEWS[name](images.pixels.float() / 255), CIFAR10_STATISTICS)
        torch.testing.assert_close(
            torch.stack(list(map(view, shown))), ours, rtol=0, atol=2e-5, msg=name
        )


def test_both_predict_the_same(images, monkeypatch):
    monkeypatch.setattr(predict.compute, "prepare", lambda _settings: torch.device("cpu"))
    data = Dataset(
        "cifar10",
        tuple("0123456789"),
        images,
        images,
        images,
        CIFAR10_STATISTICS,
        "",
        images,
        CIFAR10_STATISTICS,
    )
    pair = prediction.Pair(data, quick=True)
    theirs, ours = pair.theirs(prediction.pictures(images.pixels)), pair.ours(images, "fp32")
    assert theirs.std(0).max() > 1e-3  # the images are told apart
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5)


def test_baseline_leaves_the_switches_as_they_were(monkeypatch):
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        with baseline.switches():
            assert (
                not torch.are_deterministic_algorithms_enabled()
                and torch.backends.cudnn.deterministic
            )
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(before)


def test_a_step_of_the_baseline_is_sgd_by_hand(images):
    torch.manual_seed(0)
    model = ResNet((1,), (4,), (1,))
    inputs = normalise(images.pixels.float() / 255, CIFAR10_STATISTICS)
    optimiser, before = baseline.make_optimiser(model), model.linear.bias.detach().clone()
    rng = np.random.default_rng(0)
    assert np.random.default_rng(0).random() >= 0.5  # this batch is not mixed
    loss, right = baseline.train_step(model.train(), optimiser, inputs, images.labels, rng)
    # The first step has no momentum yet.
    change = (before - model.linear.bias) / 0.1 - 5e-4 * before
    torch.testing.assert_close(change, model.linear.bias.grad, rtol=0, atol=1e-5)
    assert loss > 0 and 0 <= right <= 6


# The arithmetic


def test_ratios_are_taken_round_by_round():
    assert timing.ratios([300.0, 200.0, 400.0], [100.0, 50.0, 200.0]) == [3.0, 4.0, 2.0]
    assert timing.spread([3.0, 4.0, 2.0]) == {"median": 3.0, "low": 2.0, "high": 4.0}
    assert timing.seconds_for(10_000, [100.0, 50.0]) == pytest.approx((5000 / 100) + (5000 / 50))


def test_measures_are_interleaved():
    calls = []
    measures = {name: lambda name=name: calls.append(name) or float(len(calls)) for name in "AB"}
    assert timing.interleaved(measures, 2) == {"A": [1.0, 3.0], "B": [2.0, 4.0]}
    assert calls == ["A", "B", "A", "B"]


def test_bound_by_hand():
    assert limits.bound(6e12, 1000) == pytest.approx(1000)  # 1 GMAC: 6 GFLOP an image


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("aten::mkldnn_convolution", "convolution, forward"),
        ("aten::convolution_backward", "convolution, backward"),
        ("sm90_xmma_wgrad_implicit_gemm_bf16bf16", "convolution, backward"),
        ("sm90_xmma_fprop_implicit_gemm_bf16bf16", "convolution, forward"),
        ("triton_red_fused_convolution_backward_native_batch_norm_backward_3", "batch norm"),
        ("triton_poi_fused_add_relu_1", "element-wise"),
        ("aten::native_batch_norm_backward", "batch norm"),
        ("void at::native::multi_tensor_apply_kernel<FusedSgdMathFunctor>", "optimiser"),
        ("aten::fill_", "filling fresh memory"),
        ("aten::_log_softmax", "other"),
    ],
)
def test_operators_are_grouped_in_words(name, word):
    assert limits.group_of(name) == word


@pytest.mark.parametrize(
    ("capability", "precision", "kernels", "said"),
    [
        ("AVX2", "fp32", "AuthenticAMD", "CPU, 2 threads (AVX2), fp32"),
        ("AVX512", "bf16", None, "CPU, 2 threads (AVX512-BF16), bf16"),
        (
            "AVX512",
            "bf16",
            "GenuineIntel, VNNI, AVX512-BF16, AMX",
            "CPU, 2 threads (AVX512, AMX), bf16",
        ),
    ],
)
def test_two_processors_of_one_capability_have_headings_of_their_own(
    capability, precision, kernels, said
):
    told = {"device": "cpu", "threads": 2, "cpu_capability": capability, "precision": precision}
    assert machine.words(told | ({"cpu_kernels": kernels} if kernels else {})) == said


def test_machine_s_name_says_its_kind():
    told = {"device": "cuda", "device_name": "NVIDIA H200", "precision": "bf16", "threads": 2}
    assert machine.slug(told) == "nvidia-h200"
    assert machine.slug({**told, "device": "cpu", "cpu_capability": "AVX512"}).startswith(
        "cpu-2-threads-avx512"
    )


def test_numbers_in_the_table():
    assert table.between({"median": 3.0, "low": 2.0, "high": 4.0}) == "3.00 (2.00 to 4.00)"
    assert table.between({"median": 12345.6, "low": 12345.6, "high": 12345.6}) == "12,346"
    assert table.percent({"median": 0.985, "low": 0.97, "high": 0.99}) == "98.5% (97.0 to 99.0)"


# The command


@pytest.mark.cifar10
def test_rehearsal_measures_everything(rehearsed, copy):
    said, written = rehearsed
    found = json.loads(written.read_text())
    assert written.stem.endswith("-quick") and found["rehearsal"] and table.REHEARSAL in said
    assert all(what in said for what, _value in table.rows(found))
    assert found["prediction"]["largest_difference"] < 1e-3
    assert all(found[part]["cost"]["median"] > 0 for part in ("views", "cutmix"))
    assert "Five views : the single view, time" in said and "CutMix : none, training time" in said
    assert sum(found["profile"]["groups"].values()) == pytest.approx(1)
    assert found["memory"]["peak"] >= found["memory"]["data"] > found["memory"]["imported"] > 0
    assert written.with_suffix(".svg").stat().st_size > 5000
    text = written.read_text() + written.with_suffix(".svg").read_text()
    assert (
        str(copy.folder) not in text and str(ROOT) not in text and socket.gethostname() not in text
    )


@pytest.mark.cifar10
def test_readme_takes_measurements_and_no_rehearsal(rehearsed, tmp_path, monkeypatch):
    _said, written = rehearsed
    page, kept, measured = tmp_path / "docs" / "speed.md", tmp_path / "kept", tmp_path / "bench"
    monkeypatch.setattr(readme, "KEPT", kept)
    monkeypatch.setattr(readme, "FOLDER", measured)
    monkeypatch.setattr(readme.paths, "ROOT", tmp_path)
    page.parent.mkdir()
    page.write_text("before\nafter\n")
    shutil.copytree(written.parent, measured)
    with pytest.raises(UserError, match="no measurements"):
        readme.main()
    for path in list(measured.iterdir()):
        path.rename(path.with_stem("made-up"))
    content = json.loads((measured / "made-up.json").read_text())
    (measured / "made-up.json").write_text(json.dumps({**content, "rehearsal": False}))
    with pytest.raises(UserError, match="the marks"):
        readme.main()
    begin, end = marks("benchmarks")
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    readme.main()
    text = page.read_text()
    assert (
        text.startswith("before\n<!-- bench")
        and text.endswith("end -->\nafter\n")
        and "old" not in text
    )
    assert "| Training, ours, images/s |" in text
    assert {path.name for path in kept.iterdir()} == {"made-up.json", "made-up.svg"}


def test_without_cifar10_one_line_says_what_to_do(monkeypatch, capsys):
    monkeypatch.setattr(run.cifar10, "locate", lambda: None)
    with pytest.raises(SystemExit) as left:
        exit_on_user_error(lambda: run.main(["--quick"]))
    assert left.value.code == 2
    assert capsys.readouterr().err == "error: make bench needs the real CIFAR-10: make data\n"


def test_unknown_option_is_bad_input(capsys):
    with pytest.raises(SystemExit) as left:
        run.main(["--fast"])
    assert left.value.code == 2 and "--fast" in capsys.readouterr().err


def test_time_of_many_jobs_by_hand():
    """Ten jobs of 100 s + 20 s on four machines are three rounds; each machine has a row."""
    assert cluster.duration(10, 4, 100.0, 20.0) == 3 * 120
    times = ((100.0, "CPU, 2 threads, bf16"), (3600.0, "CPU, 2 threads, fp32"))
    scores = (Score("single", (0.93, 0.94)),)
    result = Result("cpu", 1_971_362, 10, scores, runs=2, pflop=0.354, times=times)
    found = cluster.rows([result], 20.0)
    assert found == [
        ["run", "on each", "one training", "200 on 1", "200 on 8", "200 on 64"],
        ["`cpu`", "CPU, 2 threads, bf16", "1:40", "6:40:00", "50:00", "8:00"],
        ["`cpu`", "CPU, 2 threads, fp32", "1:00:00", "201:06:40", "25:08:20", "4:01:20"],
    ]
