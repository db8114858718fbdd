"""What a machine has: cores, a GPU that PyTorch can use, packages, another system than Windows."""

import subprocess
import sys
from pathlib import Path

import joblib
import pytest
import torch

from bundle import checks, surroundings
from bundle.__main__ import main, parser
from bundle.runs import params, ready
from lib.errors import UserError
from lib.settings import COMMON

ROOT = Path(__file__).resolve().parents[2]


# Cores


@pytest.mark.parametrize(
    ("here", "limit", "wanted"),
    [(8, None, 8), (8, "3", 3), (2, "16", 2), (400, "", 256), (1, "no", 1), (4, "0", 1)],
)
def test_auto_takes_the_cores_within_the_limits(monkeypatch, here, limit, wanted):
    monkeypatch.setattr(joblib, "cpu_count", lambda only_physical_cores: here)
    monkeypatch.delenv("OMP_THREAD_LIMIT", raising=False)
    if limit is not None:
        monkeypatch.setenv("OMP_THREAD_LIMIT", limit)
    assert surroundings.cores() == wanted


def loaded(*arguments: str):
    from bundle.__main__ import _parameters

    return _parameters(parser().parse_args(["run", *arguments]))


def test_a_run_records_the_number_that_auto_meant(monkeypatch):
    monkeypatch.setattr(surroundings, "cores", lambda: 6)
    quick = loaded("quick")
    assert quick.name == "quick" and quick.values["03_train"]["threads"] == 6
    assert quick.injected("03_train")["threads"] == 6
    assert quick.settings("04_predict_tta").threads == 6
    cpu = loaded("cpu")
    assert cpu.injected("03_train")["threads"] == cpu.values["03_train"]["threads"] == 2
    assert loaded("smoke").values["03_train"]["threads"] == 2


@pytest.mark.parametrize(
    ("given", "name", "number"),
    [("8", "cpu-threads8", 8), ("auto", "cpu-threadsauto", 6), ("", "cpu", 2)],
)
def test_other_threads_have_a_folder_of_their_own(monkeypatch, given, name, number):
    monkeypatch.setattr(surroundings, "cores", lambda: 6)
    cpu = loaded("cpu", "--threads", given)
    assert (cpu.name, cpu.values["03_train"]["threads"]) == (name, number)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("all", "threads = 'all': must be a whole number, or auto, not text"),
        ("0", "threads = 0: must lie between 1 and 256"),
        ("2.5", "must be a whole number"),
        ("2 seed=3", "threads = '2 seed=3'"),
    ],
)
def test_wrong_threads_are_told(given, said):
    with pytest.raises(UserError) as caught:
        loaded("cpu", "--threads", given)
    assert said in str(caught.value)


def test_the_table_of_parameters_names_the_word():
    assert checks.limits_of(COMMON["threads"]) == "a whole number, 1 to 256, or auto"
    assert checks.limits_of(COMMON["device"]) == "one of auto, cpu, cuda"


# A GPU


@pytest.fixture
def gpu(monkeypatch):
    """Return a function that pretends a GPU and a driver to PyTorch."""

    def pretend(capability=None, error="", kinds=("sm_75", "sm_90a", "sm_120", "compute_120")):
        def init():
            raise RuntimeError(error)

        monkeypatch.setattr(surroundings, "_driver_is_here", lambda: True)
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: capability is not None)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla P100")
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(kinds))
        monkeypatch.setattr(torch.cuda, "init", init)

    return pretend


@pytest.mark.parametrize("capability", [(7, 5), (8, 9), (9, 0), (12, 1)])
def test_a_gpu_that_the_wheel_holds_code_for_is_taken(gpu, capability):
    gpu(capability)
    surroundings.check_gpu("auto")


OLD_DRIVER = "The NVIDIA driver on your system is too old (found version 11040). Please update"


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_what_is_too_old_is_told_at_the_start(gpu, device):
    gpu((6, 0))
    with pytest.raises(UserError, match=r"Tesla P100 \(compute capability 6\.0\): too old .*7\.5"):
        surroundings.check_gpu(device)
    gpu(None, OLD_DRIVER)
    with pytest.raises(UserError, match=r"driver is too old for PyTorch .* \(CUDA 13\.0\): update"):
        surroundings.check_gpu(device)
    surroundings.check_gpu("cpu")


def test_no_gpu_and_a_build_without_cuda_are_no_mistake(gpu, monkeypatch):
    gpu(None, "Found no NVIDIA driver on your system.")
    surroundings.check_gpu("auto")
    gpu((9, 4), kinds=())
    surroundings.check_gpu("auto")
    gpu(None, OLD_DRIVER)
    monkeypatch.setattr(torch.version, "cuda", None)
    surroundings.check_gpu("auto")


def test_a_run_looks_at_the_gpu_before_it_starts(gpu, monkeypatch, tmp_path):
    monkeypatch.setattr("bundle.paths.RESULTS", tmp_path)
    gpu((6, 1))
    with pytest.raises(UserError, match="too old"):
        main(["run", "smoke"])
    ready.check(params.load("smoke", "device=cpu"))
    assert not list(tmp_path.iterdir())


def test_commands_that_only_look_load_no_pytorch():
    looked = "bundle.runs.execute, bundle.runs.terminal, bundle.pages.publish, bundle.pages.index"
    loaded = f"import sys, {looked}; print({{'torch', 'pandas'}} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "set()\n", done.stderr


# Packages and the system

HIDES = """
import importlib.abc, os, sys
class Hides(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in os.environ["HIDDEN"].split():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hides())
"""


def command(folder: Path, hidden: str, *arguments: str) -> list[str]:
    """Call a command by a Python that lacks modules; return its exit code's and error's lines."""
    (folder / "sitecustomize.py").write_text(HIDES)
    environment = {"PYTHONPATH": f"{folder}:{ROOT}", "HIDDEN": hidden, "BUNDLE_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "bundle", *arguments], env=environment, cwd=folder,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout == ""
    return [str(done.returncode), *done.stderr.splitlines()]


@pytest.mark.parametrize(
    ("hidden", "names"),
    [
        ("papermill latex2mathml", "papermill, latex2mathml"),
        ("ipykernel", "ipykernel"),
        ("yaml sklearn filelock", "pyyaml, filelock, scikit-learn"),
        ("torch", "torch"),
    ],
)
def test_missing_packages_are_one_line_at_once(tmp_path, hidden, names):
    code, *lines = command(tmp_path, hidden, "run", "smoke")
    assert code == "2" and len(lines) == 1, lines
    assert f": no package {names} there; " in lines[0]
    assert f"{sys.executable} -m pip install {names.replace(',', '')};" in lines[0]


def test_windows_is_told_at_once(tmp_path):
    code, *lines = command(tmp_path, "fcntl pwd", "status", "smoke")
    assert code == "2" and len(lines) == 1 and "WSL2" in lines[0], lines


def test_every_package_that_is_looked_for_is_asked_for():
    asked = {line.split("==")[0].strip() for line in (ROOT / "requirements.in").open()}
    assert set(surroundings.PACKAGES.values()) <= asked and not surroundings.missing()
