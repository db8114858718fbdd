"""make verify: the same bits, another result, other parameters, another machine."""

import json
import math
import re
import shutil

import pytest
import torch

from bundle import files, fingerprint
from bundle.__main__ import main
from bundle.release import verify
from bundle.training import code, identity
from lib.errors import UserError
from lib.settings import Train


@pytest.fixture
def kept(finished, monkeypatch):
    """Verify in this process, in the bundle of the finished smoke run; its metrics are put back."""
    path = finished.results() / "metrics.json"
    before = path.read_bytes()
    monkeypatch.setattr("bundle.paths.RESULTS", finished.folder / "results")
    monkeypatch.setattr("bundle.paths.DATA", finished.folder / "data")
    monkeypatch.setenv("CIFAR10_ROOT", "")
    monkeypatch.setenv("BUNDLE_OFFLINE", "1")
    yield path
    files.write_sealed(path, before)
    shutil.rmtree(finished.results() / "verify", ignore_errors=True)


def change(path, **changes) -> None:
    metrics = json.loads(path.read_text())
    for key, value in changes.items():
        part, _, name = key.partition("__")
        metrics[part][name] = value
    files.write_sealed(path, json.dumps(metrics).encode())


def test_the_same_machine_gives_the_same_bits(kept, capsys):
    before = kept.read_bytes()
    assert main(["verify", "smoke"]) == 0
    digest, said = json.loads(before)["train"]["weights_sha256"][:16], capsys.readouterr().out
    assert f"recorded {digest}, now {digest}: the same" in said
    assert said.strip().endswith("smoke: verified, bit for bit")
    assert kept.read_bytes() == before and not (kept.parent / "verify").exists()
    noted = json.loads((kept.parent / "training" / code.VERIFIED).read_text())
    assert noted["code"] == fingerprint.of_value(fingerprint.of_loop()) and "commit" in noted


def test_other_weights_are_told_by_the_exit_code(kept, capsys):
    change(kept, train__weights_sha256="0" * 64)
    assert main(["verify", "smoke"]) == 1
    assert "smoke: NOT reproduced, bit for bit" in capsys.readouterr().out
    assert main(["verify", "smoke"]) == 1  # its own training is finished and is only compared
    assert "epoch" not in capsys.readouterr().out


def test_another_machine_is_judged_within_a_tolerance(kept, capsys):
    accuracy = json.loads(kept.read_text())["test"]["accuracy"]
    change(kept, train__weights_sha256="0" * 64, environment__cpu_capability="ANOTHER")
    assert main(["verify", "smoke"]) == 0
    assert "the bits may differ: cpu_capability ANOTHER -> " in capsys.readouterr().out
    change(
        kept,
        train__weights_sha256="0" * 64,
        environment__cpu_capability="ANOTHER",
        test__accuracy=1 - accuracy / 9,
    )
    assert main(["verify", "smoke"]) == 1
    assert "NOT reproduced, within" in capsys.readouterr().out


def test_other_kernels_of_a_cpu_are_another_machine(monkeypatch):
    """A CPU told to do less than it can gives other bits, though its capability reads the same."""
    for name in identity.SWITCHES:
        monkeypatch.delenv(name, raising=False)
    device, settings = torch.device("cpu"), Train(run="x")
    then = identity.machine_of(device, "fp32", settings)
    assert verify.differing_machine({"environment": then}, then) == []
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    now = identity.machine_of(device, "fp32", settings)
    (told,) = verify.differing_machine({"environment": then}, now)
    assert told.startswith("cpu_kernels ") and told.endswith("ONEDNN_MAX_CPU_ISA=AVX2")
    whole = {"parameters": {}, "data": {}, "code": fingerprint.of_loop()}
    assert not identity.gone_on({**whole, "compute": then}, {**whole, "compute": now}, 1)
    older = {key: value for key, value in then.items() if key != "cpu_kernels"}
    assert verify.differing_machine({"environment": older}, now) == []
    wanted = {**whole, "compute": now}
    assert identity.gone_on({**whole, "compute": older}, wanted, 1) == wanted


def test_tolerance_by_hand():
    assert verify.tolerance(0.9465, 10_000) == pytest.approx(0.00955, abs=1e-5)
    assert verify.tolerance(0.5, 1000) == pytest.approx(3 * math.sqrt(0.0005))


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (
            "quick",
            "results/quick/metrics.json: no finished run there to verify; make run-all RUN=quick "
            "first",
        ),
        ("smok", "no file params/smok.yaml"),
    ],
)
def test_bad_input_is_one_line(kept, run, said):
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        main(["verify", run])
    assert "\n" not in str(caught.value)


def test_other_parameters_are_refused(kept):
    change(kept, settings__learning_rate=0.5)
    with pytest.raises(
        UserError, match=r"made with other parameters \(learning_rate 0\.5 -> 0\.05\)"
    ):
        main(["verify", "smoke"])
