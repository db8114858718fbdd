"""make verify: the same bits, another result, other parameters, another machine."""

import json
import math

import pytest

from lib import verify


@pytest.fixture
def kept(finished):
    """The finished smoke run; its metrics are put back afterwards."""
    path = finished.results() / "metrics.json"
    before = path.read_bytes()
    yield finished, path
    path.write_bytes(before)


def change(path, **changes) -> None:
    metrics = json.loads(path.read_text())
    for key, value in changes.items():
        part, _, name = key.partition("__")
        metrics[part][name] = value
    path.write_text(json.dumps(metrics))


def test_the_same_machine_gives_the_same_bits(kept):
    bundle, path = kept
    before = path.read_bytes()
    done = bundle.run("lib.verify", "smoke")
    assert done.returncode == 0, done.stderr
    digest = json.loads(before)["train"]["weights_sha256"][:16]
    assert f"recorded {digest}, now {digest}: the same" in done.stdout
    assert done.stdout.strip().endswith("smoke: verified, bit for bit")
    assert path.read_bytes() == before and not (bundle.results() / "verify").exists()


def test_other_weights_are_told_by_the_exit_code(kept):
    bundle, path = kept
    change(path, train__weights_sha256="0" * 64)
    done = bundle.run("lib.verify", "smoke")
    assert done.returncode == 1 and "smoke: NOT reproduced, bit for bit" in done.stdout
    again = bundle.run("lib.verify", "smoke")  # its own training is finished and is only compared
    assert again.returncode == 1 and "epoch" not in again.stdout


def test_another_machine_is_judged_within_a_tolerance(kept):
    bundle, path = kept
    accuracy = json.loads(path.read_text())["test"]["accuracy"]
    change(path, train__weights_sha256="0" * 64, environment__cpu_capability="AVX2")
    done = bundle.run("lib.verify", "smoke")
    assert done.returncode == 0 and "another machine: cpu_capability AVX2 -> " in done.stdout
    change(path, train__weights_sha256="0" * 64, environment__cpu_capability="AVX2", test__accuracy=1 - accuracy / 9)
    done = bundle.run("lib.verify", "smoke")
    assert done.returncode == 1 and "NOT reproduced, within" in done.stdout


def test_tolerance_by_hand():
    assert verify.tolerance(0.9465, 10_000) == pytest.approx(0.00955, abs=1e-5)
    assert verify.tolerance(0.5, 1000) == pytest.approx(3 * math.sqrt(0.0005))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("quick",), "results/quick/metrics.json: no finished run there to verify; make run-all RUN=quick first"),
        (("smok",), "no file params/smok.yaml"),
    ],
)
def test_bad_input_is_one_line(finished, arguments, said):
    done = finished.run("lib.verify", *arguments)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1


def test_other_parameters_are_refused(kept):
    bundle, path = kept
    change(path, settings__learning_rate=0.5)
    done = bundle.run("lib.verify", "smoke")
    assert done.returncode == 2 and "made with other parameters (learning_rate 0.5 -> 0.05)" in done.stderr
