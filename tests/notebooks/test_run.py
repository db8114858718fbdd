"""The whole smoke run through make run-all's code: what it leaves, what reruns, how it fails."""

import json
import os
import pickle
import re
import signal
import subprocess
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest

from bundle.runs import graph, status
from bundle.runs.failure import explain
from bundle.training import store
from bundle.words import clock

KEYS = {"run", "dataset", "seed", "parameters", "mmac", "train", "holdout", "test", "environment"}
NOTEBOOKS = [node.name for node in graph.nodes()]


def metrics_of(bundle, run="smoke"):
    return json.loads((bundle.results(run) / "metrics.json").read_text())


def executed(bundle, run="smoke"):
    """Notebook -> the hash of its executed file: changes when the notebook ran again."""
    return {name: (bundle.results(run) / f"{name}.ipynb").read_bytes() for name in NOTEBOOKS}


def ran(output: str) -> list[str]:
    return re.findall(r"^\[\d of \d\] [^(\n]*\((\w+)\): running", output, re.MULTILINE)


def status_of(bundle) -> dict[str, str]:
    """Notebook -> what `make status` says of it."""
    first, *lines = bundle.run("bundle", "status", "smoke").stdout.splitlines()
    assert first.startswith("smoke: ")
    return dict(line.split(maxsplit=1) for line in lines)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def insert_cell(path: Path, place: int, source: str) -> None:
    """Put a code cell into a notebook before the cell at `place` (counted from 0) or at the end."""
    content = nbformat.read(path, as_version=4)
    content.cells.insert(place, nbformat.v4.new_code_cell(source, id=f"added-{len(content.cells)}"))
    nbformat.write(content, path)


def test_leaves_pages_metrics_figures_and_tables(finished):
    folder = finished.results()
    for name in NOTEBOOKS:
        assert (folder / f"{name}.ipynb").exists() and (folder / f"{name}.html").exists()
    assert (folder / "report.html").exists() and (finished.folder / "results/index.html").exists()
    assert metrics_of(finished).keys() >= KEYS
    pdfs, svgs = (
        {path.stem for path in folder.glob(f"figures/*.{kind}")} for kind in ("pdf", "svg")
    )
    assert pdfs == svgs and len(pdfs) >= 15
    assert all("\\toprule" in path.read_text() for path in folder.glob("tables/*.tex"))
    assert len(list(folder.glob("tables/*.tex"))) >= 10
    assert not (folder / ".stage").exists() and not (folder / "failed").exists()


def test_ends_with_the_figures_and_the_report(finished):
    last = finished.said.strip().splitlines()[-4:]
    assert max(map(len, last)) <= 100
    accuracy = metrics_of(finished)["test"]["accuracy"]
    assert last[0].startswith("result") and f"{accuracy:.1%} of " in last[0]
    assert f"{metrics_of(finished)['parameters']:,}" in last[1]
    assert "results/smoke/report.html" in last[2] and "results/index.html" in last[2]
    assert "handwritten digits, not CIFAR-10" in last[3] and "make data" in last[3]


def test_each_notebook_is_a_step_with_its_time(finished):
    said = finished.said.splitlines()
    count = len(NOTEBOOKS)
    assert sum(line.startswith(f"smoke: {count} notebooks to run") for line in said) == 1
    done = [line for line in said if re.search(r"done in \d", line)]
    steps = [re.match(rf"\[(\d) of {count}\] .*\((\w+)\)", line).groups() for line in done]
    assert steps == [(str(number), name) for number, name in enumerate(NOTEBOOKS, 1)]
    for name in NOTEBOOKS:
        record = json.loads((finished.results() / f"fingerprints/{name}.json").read_text())
        assert record["seconds"] > 0


def test_metrics_agree_with_predictions_and_network(finished):
    metrics, folder = metrics_of(finished), finished.results()
    saved = np.load(folder / "predictions.npz")
    hits = saved["logits"][list(saved["views"]).index("original")].argmax(1) == saved["labels"]
    assert metrics["test"]["accuracy"] == hits.mean() and metrics["test"]["images"] == len(hits)
    assert (
        metrics["test"]["tta_accuracy"]
        == (saved["probabilities"].argmax(1) == saved["labels"]).mean()
    )
    # stem 3->8, blocks 8->8 and 8->16 with a 1x1 shortcut, classifier: by hand
    by_hand = (27 * 8 + 16) + (18 * 64 + 32) + (9 * 8 * 16 + 9 * 256 + 64 + 128 + 32) + (160 + 10)
    assert metrics["parameters"] == by_hand
    assert np.array(metrics["confusion"]["matrix"]).sum() == len(hits)
    assert metrics["dataset"] == "digits" and metrics["train"]["epochs"] == 2


def test_every_page_and_figure_says_what_the_data_is(finished):
    for page in finished.results().glob("*.html"):
        text = page.read_text()
        assert text.lower().count("handwritten digits, not cifar-10") >= 2, page.name
    for figure in finished.results().glob("figures/*.svg"):
        assert "handwritten digits, not CIFAR-10" in figure.read_text(), figure.name


def test_second_run_runs_nothing(finished):
    before = executed(finished)
    done = finished.run("bundle", "run", "smoke")
    assert done.returncode == 0 and ran(done.stdout) == []
    assert executed(finished) == before


def test_file_times_mean_nothing(finished):
    parts = (
        finished.folder.glob("lib/*.py"),
        finished.folder.glob("notebooks/*"),
        finished.results().rglob("*"),
    )
    for path in (path for part in parts for path in part):
        os.utime(path, (0, 0) if path.suffix == ".json" else None)
    assert ran(finished.run("bundle", "run", "smoke").stdout) == []


def test_status_names_what_changed_and_only_that_runs(own):
    params = own.folder / "params/smoke.yaml"
    original = params.read_text()
    edit(params, "05_confusion: {}", "05_confusion: {pairs: 3}")
    lines = status_of(own)
    assert lines["05_confusion"] == "pairs 5 -> 3" and lines["04_predict_tta"] == "up to date"
    assert "05_confusion" in lines["06_report"]
    assert ran(own.run("bundle", "run", "smoke").stdout) == ["05_confusion", "06_report"]
    params.write_text(original)
    done = own.run("bundle", "run", "smoke", "--until", "05_confusion")
    assert ran(done.stdout) == ["05_confusion"]
    assert "an earlier notebook ran again" in status_of(own)["06_report"]


def test_lost_artefact_is_made_again(own):
    (own.results() / "predictions.npz").unlink()
    done = own.run("bundle", "run", "smoke", "--until", "04_predict_tta")
    assert done.returncode == 0 and ran(done.stdout) == ["04_predict_tta"]
    assert (own.results() / "predictions.npz").exists()


@pytest.fixture
def original(finished):
    """Put the bundle's code, notebooks and parameters back after a test that changes them."""
    kept = {
        path: path.read_bytes()
        for part in ("lib/*.py", "notebooks/*", "params/*.yaml")
        for path in finished.folder.glob(part)
    }
    yield
    for path, content in kept.items():
        path.write_bytes(content)


def test_failing_notebook_is_one_line_and_earlier_results_stay(finished, original):
    path = finished.folder / "notebooks/05_confusion.ipynb"
    before, committed = executed(finished), path.read_bytes()
    insert_cell(path, 99, "raise ValueError('made to fail\\nhere')")
    done = finished.run("bundle", "run", "smoke")
    cell = len(nbformat.read(path, as_version=4).cells)  # counted as in the committed notebook
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert f"05_confusion, cell {cell}: ValueError: made to fail here" in line
    assert "results/smoke/failed/05_confusion.ipynb" in line and "make run-all RUN=smoke" in line
    assert (finished.results() / "failed/05_confusion.ipynb").exists()
    assert executed(finished) == before
    path.write_bytes(committed)
    done = finished.run("bundle", "run", "smoke")
    assert (
        done.returncode == 0
        and ran(done.stdout) == []
        and not (finished.results() / "failed").exists()
    )


@pytest.mark.parametrize(
    "source",
    [
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
        "import os\nos._exit(0)",
        "import sys\nsys.exit(0)",
    ],
)
def test_killed_kernel_is_never_taken_for_done(finished, original, source):
    before, path = executed(finished), finished.folder / "notebooks/05_confusion.ipynb"
    insert_cell(path, 1, source)
    insert_cell(path, 1, "done = True")  # a cell before it completes
    done = finished.run("bundle", "run", "smoke")
    assert done.returncode == 1 and "done" not in done.stdout
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: 05_confusion, cell 3: ") and "make run-all RUN=smoke" in line
    assert executed(finished) == before
    assert status_of(finished)["05_confusion"].startswith("the notebook changed")


def test_full_disk_is_one_line(finished, original):
    source = (
        "import errno, os\n"
        "raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), 'figures/recall.pdf')"
    )
    insert_cell(finished.folder / "notebooks/05_confusion.ipynb", 1, source)
    done = finished.run("bundle", "run", "smoke")
    assert done.returncode == 1 and "No space left on device" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def stopped(process: subprocess.Popen, number: int) -> None:
    """Send a signal to `make run-all` and hold what it says."""
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert len(errors.strip().splitlines()) == 1 and "make run-all RUN=smoke" in errors


def test_interrupted_training_goes_on(own):
    """By Ctrl-C, then to its end."""
    epochs = 15
    edit(own.folder / "params/smoke.yaml", "epochs: 2", f"epochs: {epochs}")
    complete = (own.results() / "training/state.json").read_bytes()
    history = own.results() / "training.partial/history.jsonl"
    process = own.start("bundle", "run", "smoke", "--until", "03_train")
    wait_until(lambda: len(store.read_history(history.parent)) >= 3)
    stopped(process, signal.SIGINT)
    assert (own.results() / "training/state.json").read_bytes() == complete
    done = history.read_text().count("\n")
    assert 3 <= done < epochs
    again = own.run("bundle", "run", "smoke", "--until", "03_train")
    assert again.returncode == 0, again.stderr
    assert "(02_build_model): up to date" in again.stdout
    assert f"epoch {done}/{epochs}" not in again.stdout
    assert f"epoch {done + 1}/{epochs}" in again.stdout
    assert f"epoch {epochs}/{epochs}" in again.stdout


def test_second_run_at_the_same_time_is_refused(own):
    """And what a cluster sends ends the first as Ctrl-C would."""
    complete = (own.results() / "training/state.json").read_bytes()
    process = own.start("bundle", "run", "smoke", "--retrain")
    wait_until(lambda: (own.results() / ".stage/03_train/job.json").exists())
    second = own.run("bundle", "run", "smoke")
    stopped(process, signal.SIGTERM)
    assert (own.results() / "training/state.json").read_bytes() == complete
    assert second.returncode == 2 and len(second.stderr.strip().splitlines()) == 1
    assert "another command is working on results/smoke" in second.stderr


def test_changed_code_keeps_the_training_and_marks_it_stale(own):
    before, module = metrics_of(own)["train"], own.folder / "lib/schedule.py"
    module.write_text(module.read_text() + "\n# another comment\n")
    assert set(status_of(own).values()) == {"up to date"}
    edit(module, "return peak * (1 - done)", "return (1 - done) * peak")
    done = own.run("bundle", "run", "smoke", "--until", "03_train")
    assert done.returncode == 0 and "03_train" in ran(done.stdout) and "epoch" not in done.stdout
    after = metrics_of(own)["train"]
    assert after["weights_sha256"] == before["weights_sha256"]
    assert after["stale"] == ["learning_rate"] and before["stale"] == []
    page = (own.results() / "03_train.html").read_text()
    assert "was done by other code: learning_rate." in page and "<strong>Loaded</strong>" in page
    done = own.run("bundle", "run", "smoke", "--until", "03_train", "--retrain")
    assert "epoch 2/2" in done.stdout
    again = metrics_of(own)["train"]
    assert again["stale"] == [] and again["finished"] > before["finished"]
    assert again["weights_sha256"] == before["weights_sha256"]  # the same bits after all
    page = (own.results() / "03_train.html").read_text()
    assert "<strong>Trained here</strong>" in page and "Fresh:" in page


def test_set_and_seed_go_to_a_directory_of_their_own_and_a_shifted_set_is_predicted(
    finished, tmp_path
):
    rng = np.random.default_rng(0)
    given, ids = tmp_path / "cifar_test_nolabel.pkl", rng.permutation(500)[:30]
    given.write_bytes(
        pickle.dumps({b"data": rng.integers(0, 256, (30, 32, 32, 3), dtype=np.uint8), b"ids": ids})
    )
    before = (finished.results() / "metrics.json").read_bytes()
    changes = f"03_train.epochs=1 04_predict_tta.shifted_set={given} 04_predict_tta.beside=image"
    done = finished.run(
        "bundle", "run", "smoke", "--set", changes, "--seed", "3", "--until", "04_predict_tta"
    )
    assert done.returncode == 0, done.stderr
    (folder,) = finished.results().parent.glob("smoke-epochs1-*")
    metrics = metrics_of(finished, folder.name)
    assert (
        metrics["seed"] == 3 and metrics["train"]["epochs"] == 1 and metrics["run"] == folder.name
    )
    assert (finished.results() / "metrics.json").read_bytes() == before
    other = f"standard deviations instead, {metrics['beside']['accuracy']:.2%}"
    assert other in (folder / "04_predict_tta.ipynb").read_text()
    lines = (folder / "submission.csv").read_text().splitlines()
    assert (
        lines[0] == "ID,Labels" and [int(line.split(",")[0]) for line in lines[1:]] == ids.tolist()
    )
    assert all(line.split(",")[1] in set("0123456789") for line in lines[1:])


def test_run_that_needs_the_missing_dataset_is_refused_in_one_line(bundle):
    (bundle.folder / "params/mine.yaml").write_text("base: smoke\ndataset: cifar10\n")
    done = bundle.run("bundle", "run", "mine")
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert (
        "CIFAR-10 is not here" in done.stderr
        and "make data" in done.stderr
        and "CIFAR10_ROOT" in done.stderr
    )


@pytest.mark.cifar10
def test_smoke_on_real_images(bundle, cifar10_root):
    to = ("--until", "05_confusion")  # those after it take no other way for them
    done = bundle.run("bundle", "run", "smoke", *to, CIFAR10_ROOT=str(cifar10_root))
    assert done.returncode == 0, done.stderr
    metrics = metrics_of(bundle)
    assert (
        metrics["dataset"] == "cifar10-subset"
        and "300 of 50,000 training, 100 of 5,000 hold-out and 200 of 10,000 test images"
        in metrics["notice"]
    )
    assert metrics["data"]["holdout"] == 5000 and metrics["test"]["images"] == 200
    assert metrics["data"]["mean"] == pytest.approx([0.4914, 0.4822, 0.4465], abs=5e-5)
    assert metrics["data"]["std"] == pytest.approx([0.2470, 0.2435, 0.2616], abs=5e-5)


def wait_until(condition, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_clock():
    assert [clock(seconds) for seconds in (0, 59.4, 60, 200, 3720)] == [
        "0 s",
        "59 s",
        "1:00",
        "3:20",
        "1:02:00",
    ]


def test_notebook_cut_off_by_a_full_disk_is_not_taken_for_done(tmp_path):
    cut = tmp_path / "05_confusion.ipynb"
    cut.write_text('{"cells": [{"cell_type": "code", "source": ["a =')
    assert status.unfinished(cut, 0) and status.unfinished(cut, 1)
    assert not status.never_started(cut)
    (tmp_path / "failed").mkdir()
    cut.rename(tmp_path / "failed" / cut.name)
    line = explain("05_confusion", cut, "its process ended with status 1", tmp_path, "make run-all")
    assert (
        line.startswith("05_confusion: its process ended with status 1; failed copy: ")
        and "\n" not in line
    )
