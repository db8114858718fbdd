"""Staleness by what decides: definitions, known versions, verification; old states live on."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from bundle import fingerprint, paths
from bundle.paths import ROOT
from bundle.runs import results
from bundle.training import code, identity, session, store
from lib import data
from lib.settings import Train
from tests import golden, known_code

VERSIONS = json.loads(code.FILE.read_text())
OLD = Path(__file__).resolve().parents[1] / "states" / "71a400b"
RELEASED = sorted(ROOT.glob("results/released/*/training/state.json"))


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """Return a copy of lib that fingerprints are taken of."""
    shutil.copytree(ROOT / "lib", tmp_path / "lib")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    return tmp_path / "lib"


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, old
    path.write_text(text.replace(old, new))


# What changes a fingerprint, and what does not


def test_prose_places_and_files_change_nothing(copied):
    before = fingerprint.of_loop()
    edit(
        copied / "augment.py", '"""Mirror each image upside down with `probability`."""', '"""."""'
    )
    edit(copied / "step.py", "    model.train()\n", "    model.train()  # batch norm counts\n")
    edit(copied / "schedule.py", "import math\n", "import math\n\n\n\n")
    text = (copied / "average.py").read_text()
    (copied / "running.py").write_text(text)
    (copied / "average.py").unlink()
    for name in ("train.py", "step.py"):
        edit(copied / name, "from lib.average import", "from lib.running import")
    assert fingerprint.of_loop() == before


def test_one_character_of_what_is_reached_changes_it(copied):
    before = fingerprint.of_loop()
    edit(copied / "augment.py", "images.flip(2), images)", "images.flip(3), images)")
    edit(copied / "blocks.py", "epsilon: float = 5e-4", "epsilon: float = 6e-4")
    edit(copied / "optimise.py", "(3.4445, ", "(3.4446, ")
    changed = fingerprint.differences(before, fingerprint.of_loop())
    assert changed == ["NEWTON_SCHULZ", "random_vertical_flip", "whitening_filters"]


def test_a_value_set_later_and_a_deeper_definition_are_seen(copied):
    before = fingerprint.of_loop()
    with (copied / "blocks.py").open("a") as file:
        file.write('\n\nBLOCKS["basic"] = PooledBlock\n')
    edit(copied / "data.py", "* 255).round()", "* 254).round()")
    assert fingerprint.differences(before, fingerprint.of_loop()) == ["BLOCKS", "_digits"]


def test_what_only_shows_or_refuses_is_not_reached(copied):
    before = fingerprint.of_loop()
    edit(copied / "plots.py", '"#0072B2", "#E69F00"', '"#0072B3", "#E69F00"')
    edit(copied / "predict.py", "VIEW_BLUR_SIGMA = 1.0", "VIEW_BLUR_SIGMA = 2.0")
    assert fingerprint.of_loop() == before


# The known versions


@pytest.mark.parametrize(
    "known", [one for one in VERSIONS if one["commit"]], ids=lambda v: v["commit"][:7]
)
def test_known_versions_are_those_of_git(known):
    commit = known["commit"]
    if subprocess.run(["git", "cat-file", "-e", commit], cwd=ROOT, capture_output=True).returncode:
        pytest.skip("its commit is not in this clone")
    assert known_code.digests_at(commit) == {key: known[key] for key in ("files", "definitions")}
    assert known["digest"] == fingerprint.of_value(known["definitions"])


def test_the_code_that_is_here_is_known_with_the_golden_bits():
    """Where this fails alone, without test_golden: `python -m tests.known_code`."""
    here = fingerprint.of_loop()
    known = next(one for one in VERSIONS if one["definitions"] == here)
    assert known["bits"] == known_code.bits(json.loads(golden.FILE.read_text()))


def test_versions_differ_where_the_bits_did():
    """Muon multiplied in bf16 at c1c3a1e; since 2ab1a14 in fp32 where bf16 is emulated."""
    first, second, third = (one["bits"] for one in VERSIONS[:3])
    assert second == third and first["bf16"] == second["bf16"] and first["fp32"] != second["fp32"]


@pytest.mark.parametrize("path", RELEASED, ids=lambda path: path.parts[-3])
def test_released_trainings_are_not_stale(path):
    assert code.of_folder(path.parent) == []


def test_a_training_is_stale_by_name_until_it_is_verified(tmp_path, copied):
    shutil.copytree(RELEASED[0].parent, tmp_path / "training")
    edit(
        copied / "augment.py",
        "images.flip(3), images)\n\n\ndef",
        "images.flip(2), images)\n\n\ndef",
    )
    changed = code.of_folder(tmp_path / "training")
    assert "random_horizontal_flip" in changed
    summary = json.loads(RELEASED[0].read_text())
    metrics = {"train": {"stale": [], "weights_sha256": summary["weights_sha256"]}}
    assert results.marked(metrics, tmp_path)["train"]["stale"] == changed
    code.record(tmp_path / "training")
    assert results.marked(metrics, tmp_path)["train"]["stale"] == []
    assert json.loads((tmp_path / "training" / code.VERIFIED).read_text())["commit"]


def test_a_record_of_another_training_is_left_as_it_is(tmp_path):
    metrics = {"train": {"stale": ["lib/step.py"], "weights_sha256": "0" * 64}}
    assert results.marked(metrics, tmp_path) is metrics


# Trainings of the code before lib and bundle were parted


@pytest.fixture
def smoke():
    """Return the settings of the old training, and its data."""
    told = json.loads((OLD / "training" / "state.json").read_text())["parameters"]
    values = {key: tuple(one) if isinstance(one, list) else one for key, one in told.items()}
    settings = Train(run="smoke", dataset="digits", device="cpu", precision="fp32", **values)
    return settings, data.load("digits", None, settings.train_images, settings.holdout)


def test_an_old_training_loads_and_is_not_stale(tmp_path, smoke):
    shutil.copytree(OLD / "training", tmp_path / "training")
    rows = []
    loaded = session.train(*smoke, tmp_path, rows.append)
    assert not rows and loaded.stale() == [] and len(loaded.history) == 2
    assert store.weights_digest(loaded.model) == loaded.summary["weights_sha256"]
    assert identity.load_finished(tmp_path).summary["environment"]["commit"].startswith("71a400b")


def test_an_old_unfinished_training_is_gone_on_with(tmp_path, smoke):
    import dataclasses

    settings, digits = dataclasses.replace(smoke[0], epochs=3), smoke[1]
    folder = shutil.copytree(OLD / "training.partial", store.partial_folder(tmp_path))
    saved = store.load_checkpoint(folder)
    machine = session.identity_of(settings, digits, torch.device("cpu"))["compute"]
    elsewhere = saved["identity"]["compute"] != machine
    saved["identity"]["compute"] = machine
    store.save_checkpoint(folder, saved)
    rows = []
    done = session.train(settings, digits, tmp_path, rows.append)
    assert [row["epoch"] for row in rows] == [2, 3] and done.stale() == []
    whole = "caab2b743ba26d3bebf5c6edb059c73ad4ca85f8b9020760134393562120e12c"
    assert elsewhere or done.summary["weights_sha256"] == whole
