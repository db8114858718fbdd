"""Two runs side by side: the paired test, what differs, and what is refused in a line."""

import io
import json
import re
import shutil

import numpy as np
import pytest
from bs4 import BeautifulSoup
from scipy import stats

from bundle import files, paths
from bundle.__main__ import main
from bundle.compare import page, runs
from lib.errors import UserError
from lib.metrics import confusion

CLASSES = [f"class {letter}" for letter in "abcdefghij"]
IMAGES = 400
LABELS = np.arange(IMAGES) % 10
RELEASED = paths.ROOT / "results" / "released"
# fmt: off
MACHINE = {
    "device": "cpu", "device_name": "A CPU", "cpu_capability": "AVX2", "precision": "fp32",
    "threads": 2, "commit": "0123456789abcdef", "dirty": True,
}
# fmt: on


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Results of their own; their folder is returned."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def predicted(wrong):
    """Return predictions that are wrong, by one class, at these positions."""
    return np.where(np.isin(np.arange(IMAGES), list(wrong)), (LABELS + 1) % 10, LABELS)


def told(predictions, seed=42, **more):
    share = float((predictions == LABELS).mean())
    test = {"images": IMAGES, "accuracy": share, "low": share - 0.03, "high": share + 0.02}
    train = {"epochs": 3, "images": 8000, "seconds": 75.0, "images_per_second": 640.0}
    made = {
        "run": "any",
        "seed": seed,
        "dataset": "cifar10",
        "notice": "",
        "data_checksum": "ab" * 32,
        "parameters": 4_754_218,
        "mmac": 271.4,
        "settings": {"seed": seed, "cutmix": 0.5},
        "train": {**train, "tflop": 12.5, "joules": None, "weights_sha256": f"{seed:064x}"},
        "environment": MACHINE,
        "test": test,
        "confusion": {"matrix": confusion(predictions, LABELS, 10).tolist(), "classes": CLASSES},
    }
    return {**made, **more}


def put(folder, metrics, predictions=None, seal=True):
    """Write a finished run; its predictions as notebook 04 does, the second view being wrong."""
    (folder / "training").mkdir(parents=True)
    files.write_json(folder / "metrics.json", metrics)
    rows = [
        {"epoch": n, "learning_rate": 0.1, "train_loss": 2 / n, "train_accuracy": n / 4}
        for n in (1, 2, 3)
    ]
    text = "\n".join(map(json.dumps, rows))
    (folder / "training" / "history.jsonl").write_text(text)
    if predictions is not None:
        logits = np.stack([np.roll(np.eye(10)[predictions], 1, 1), np.eye(10)[predictions]])
        saved = {"views": ["flip", "original"], "logits": logits, "labels": LABELS}
        np.savez(folder / "predictions.npz", index=np.arange(IMAGES) + 7, **saved)
    if seal:
        files.seal(folder, "metrics.json", "predictions.npz")
        files.seal(folder / "training", "history.jsonl")
    return folder


def both(here, with_predictions=True, **more):
    """Two runs: `one` is wrong on 40 images, `two` on 12 others and 8 of these."""
    wrong = (range(40), [*range(8), *range(100, 112)])
    for name, images, seed in zip(("one", "two"), wrong, (42, 43), strict=True):
        predictions = predicted(images)
        given = predictions if with_predictions else None
        metrics = {**told(predictions, seed), **(more if name == "two" else {})}
        put(here / name, metrics, given)


def shown(first="one", second="two"):
    return BeautifulSoup(page.write(first, second).read_text(), "html.parser")


def refusal(*names):
    with pytest.raises(UserError) as caught:
        page.write(*names)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def text(soup):
    return " ".join(soup.find("main").get_text(" ").split())


def test_the_paired_test(here):
    both(here)
    test = page.tested(runs.read("A", "one"), runs.read("B", "two"))
    assert test.effect.size == pytest.approx((32 - 12) / IMAGES)  # 32 only two gets right, 12 one
    p = stats.chi2.sf((abs(32 - 12) - 1) ** 2 / 44, 1)
    assert test.effect.p == pytest.approx(p) and p < 0.05
    told = text(shown())
    assert "one reaches 90.00% and two reaches 95.00%: two is more accurate" in told
    assert "; two minus one: +5.00 points (95% interval " in told
    assert (
        "on the 400 test images that both saw: 12 images only one gets right, 32 only two" in told
    )
    assert "of the parameters only the seed differs" in told
    backwards = text(shown("two", "one"))
    assert "two is more accurate" in backwards and "; one minus two: −5.00 points" in backwards


def test_only_images_that_both_saw_are_paired(here):
    both(here)
    with np.load(here / "two" / "predictions.npz") as saved:
        arrays = dict(saved)
    kept = np.arange(IMAGES)[::-1][:350]  # the last 350, in another order
    arrays |= {"logits": arrays["logits"][:, kept], "labels": arrays["labels"][kept]}
    np.savez(here / "two" / "predictions.npz", **{**arrays, "index": arrays["index"][kept]})
    files.seal(here / "two", "predictions.npz")
    test = page.tested(runs.read("A", "one"), runs.read("B", "two"))
    assert "on the 350 test images" in test.told  # of 50 to 399 only two is wrong, 12 times
    assert test.effect.size == pytest.approx(-12 / 350)


def test_without_predictions_it_is_said(here):
    both(here, with_predictions=False)
    told = text(shown())
    assert "The predictions of one and two are not here" in told and "not paired" in told
    effect = page.tested(runs.read("A", "one"), runs.read("B", "two")).effect
    pooled = 0.925
    z = 0.05 / (pooled * (1 - pooled) * 2 / IMAGES) ** 0.5
    assert effect.p == pytest.approx(2 * stats.norm.sf(z))
    assert effect.size == pytest.approx(0.05)


def test_logits_of_a_release_serve(here):
    both(here)
    wanted = page.tested(runs.read("A", "one"), runs.read("B", "two")).effect
    with np.load(here / "two" / "predictions.npz") as saved:
        logits, labels, index = saved["logits"][1], saved["labels"], saved["index"]
    (here / "two" / "predictions.npz").unlink()
    kept = {"test_logits_original": logits, "test_labels": labels, "test_index": index}
    np.savez(here / "two" / "training" / "logits.npz", **kept)
    (here / "released").mkdir()
    shutil.move(here / "two", here / "released" / "two")
    assert page.tested(runs.read("A", "one"), runs.read("B", "two")).effect == wanted


def test_what_differs(here):
    both(here, settings={"seed": 43, "cutmix": 0.0, "mixup": 0.5})
    soup = shown()
    rows = {
        row.find("th").get_text(): [cell.get_text() for cell in row.find_all("td")]
        for row in soup.find_all("tr")
    }
    assert rows["cutmix"] == ["0.5", "0.0"] and rows["mixup"] == ["0.0", "0.5"]
    assert rows["seed"] == ["42", "43"] and "epochs" not in rows
    assert rows["class a"] == ["90.0%", "92.5%", "+2.5"]  # 4 and 3 of 40 wrong
    assert rows["Time of training"] == ["1:15", "1:15"]
    assert rows["Energy of training"] == ["not readable"] * 2
    assert "of the parameters only the seed differs" not in text(soup)


def test_pairs_of_classes_by_hand(here):
    both(here)
    found = page.pairs(runs.read("A", "one"), runs.read("B", "two"))
    pairs = {row["name"]: (row["counts"], row["change"]) for row in found}
    # one: 4 of each class; two: 0 to 7 once each, and 100 to 111, of class a and b twice
    assert pairs["class i and class j"] == ((4, 1), -3)
    assert all(row["change"] == row["counts"][1] - row["counts"][0] for row in found)
    sizes = [abs(row["change"]) for row in found]
    assert sizes == sorted(sizes, reverse=True) and not any(row["sure"] for row in found)
    cells = shown().find(id="pairs").find_next("table").find_all("td")
    assert cells and not any(cell.find("b") for cell in cells)


def test_the_page_is_whole(here):
    both(here, notice="a subset of CIFAR-10: 8,000 of 50,000 training images")
    soup = shown()
    html = str(soup)
    assert not re.search(r"(src|href)=\"https?://|url\((?!#)", html)
    charts = soup.find_all("svg", class_="chart")
    assert len(charts) == 2 and all("ends after 3 epochs" in each["aria-label"] for each in charts)
    ids = [tag["id"] for tag in soup.find_all(id=True)]
    assert len(ids) == len(set(ids))
    assert "two: a subset of CIFAR-10" in soup.find(class_="scope").get_text()
    assert files.is_sealed(here / "compare" / "one-two.html")


def test_digits_are_an_alarm(here):
    for name, seed in (("one", 42), ("two", 43)):
        digits = told(predicted(range(20)), seed, dataset="digits")
        put(here / name, {**digits, "notice": "handwritten digits, not CIFAR-10"})
    assert len(shown().find_all(class_="alarm")) == 2


def test_a_text_of_a_run_is_no_markup(here):
    both(here, settings={"seed": 43, "cutmix": "<script>alert(1)</script>"})
    assert shown().find("main").find("script") is None


# What is refused


def test_a_run_that_is_not_there_or_not_finished(here):
    both(here)
    assert "A=three: no such run in results/ or results/released/; make run-all with" in (
        refusal("three", "two")
    )
    (here / "four" / "training.partial").mkdir(parents=True)
    assert refusal("one", "four").startswith("B=four: not finished: 05_confusion has not run; ")
    put(here / "released" / "four", told(predicted(range(9)), 44), predicted(range(9)))
    assert refusal("one", "four").startswith("B=four: not finished")  # no release in its place
    files.write_json(here / "four" / "metrics.json", {"test": {}})
    assert "B=four: not finished: 05_confusion has not run" in refusal("one", "four")
    assert "the same run" in refusal("one", "one")
    for name in ("", "../one", "/etc", "a b", "x" * 300, "-x"):
        assert "no name of a run" in refusal(name, "two")


def test_runs_of_different_datasets(here):
    both(here, data_checksum="cd" * 32, dataset="digits")
    message = refusal("one", "two")
    assert "of different datasets (CIFAR-10 and Handwritten digits)" in message
    assert not (here / "compare").exists()


@pytest.mark.parametrize("name", ["metrics.json", "predictions.npz", "training/history.jsonl"])
def test_a_changed_file_is_damaged(here, name):
    both(here)
    path = here / "two" / name
    path.write_bytes(path.read_bytes().replace(b"0", b"1"))
    assert f"results/two/{name}: not as it was written" in refusal("one", "two")


def npz(**arrays):
    with io.BytesIO() as buffer:
        np.savez(buffer, **arrays)
        return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("predictions.npz", b"no zip"),
        ("predictions.npz", npz(views=["original"])),
        ("predictions.npz", npz(views=["flip"], logits=[1], labels=[1], index=[1])),
        ("predictions.npz", npz(views=["original"], logits=[[[1.0]]], labels=[1, 2], index=[1])),
        ("predictions.npz", npz(views=np.array([{}], object), logits=[1], labels=[1], index=[1])),
        ("training/history.jsonl", b'{"epoch": 1}\n{"epoch": 2}\n{"epoch": 3}\n'),
        ("training/history.jsonl", b"[]"),
        ("metrics.json", b"[]"),
        ("metrics.json", b"{"),
        ("metrics.json", b'{"confusion": 1}'),
    ],
)
def test_a_malformed_file_that_nobody_sealed(here, name, found):
    for run, seed in (("one", 42), ("two", 43)):
        put(here / run, told(LABELS, seed), LABELS, seal=False)
    (here / "two" / name).write_bytes(found)
    assert f"results/two/{name}: " in refusal("one", "two")


@pytest.mark.parametrize(
    "change",
    [
        {"confusion": {"matrix": [[1]], "classes": CLASSES}},
        {"confusion": {"matrix": [["a"] * 10] * 10, "classes": CLASSES}},
        {"confusion": {"matrix": [[1, 2], [3]], "classes": ["a", "b"]}},
        {"confusion": {"matrix": [[1, 2], [3, 4]], "classes": [1, 2]}},
        {"settings": []},
        {"environment": None},
        {"seed": "x"},
        {"test": {}},
        {"train": 3},
        {"data_checksum": 3},
    ],
)
def test_metrics_without_what_is_needed(here, change):
    both(here, **change)
    assert re.search(r"results/two/metrics.json: no \S+ that can be read", refusal("one", "two"))


def test_the_command(here, capsys):
    both(here)
    assert main(["compare", "one", "two"]) == 0
    assert capsys.readouterr().out == "results/compare/one-two.html\n"


def test_released_runs(here):
    shutil.copytree(RELEASED, here / "released")
    told = text(shown("cpu", "cpu-seed43"))
    assert "cpu reaches 93.57%" in told and "only the seed differs" in told
    assert "results/released/cpu-seed43" in told
