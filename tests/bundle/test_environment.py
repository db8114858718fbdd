"""What a shell, a site or a user has set: it starts all the same, or is refused in one line."""

import json
import os
import pickle
import platform
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import nbformat
import numpy as np
import pytest

from bundle import command, files, interruption, paths, surroundings
from bundle.__main__ import main
from bundle.dataset.competition import read_shifted_set
from bundle.fingerprint import of_file
from bundle.runs import adopt, params, ready, status
from bundle.training import provenance
from lib import plots
from lib.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(sys.executable)


# Which code and which Python


def test_a_child_imports_this_code_first_and_nobody_s_settings(monkeypatch):
    for name in surroundings.FOREIGN:
        monkeypatch.setenv(name, "/elsewhere")
    monkeypatch.setenv("PYTHONPATH", f"/elsewhere/lib:{ROOT}:")
    given = surroundings.child(MORE="1")
    assert given["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "/elsewhere/lib"]
    assert not set(surroundings.FOREIGN) & set(given) and given["MORE"] == "1"
    assert given["PATH"] == os.environ["PATH"]
    monkeypatch.setattr(paths, "ROOT", Path("/a:b"))
    with pytest.raises(UserError, match="rename it"):
        surroundings.child()


def test_a_notebook_refuses_the_code_of_another_bundle(tmp_path, monkeypatch):
    for name in ("bundle", "notebooks"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    with pytest.raises(UserError) as caught:
        surroundings.check_code()
    assert f"not that of {tmp_path}" in str(caught.value) and "make lab" in str(caught.value)
    monkeypatch.chdir(ROOT / "notebooks")
    surroundings.check_code()
    monkeypatch.setattr("lib.__file__", str(tmp_path / "lib" / "__init__.py"))
    with pytest.raises(UserError, match="is imported"):
        surroundings.check_code()


PROBE = """
import json, os, sys
import matplotlib as mpl
import bundle, lib
from lib import plots
with mpl.rc_context(plots.style()):
    drawn = {key: mpl.rcParams[key] for key in ("text.usetex", "font.size", "figure.facecolor")}
    drawn["drawn over"] = mpl.rcParams["axes.labelsize"]
print(json.dumps({
    "lib": lib.__file__, "bundle": bundle.__file__, "python": sys.executable, "drawn": drawn,
    "started": "started" in globals(), "optimised": sys.flags.optimize, "asked": asked,
    "warnings": sys.warnoptions, "rc": mpl.matplotlib_fname(),
}))
"""


def hostile(home: Path) -> dict[str, str]:
    """Return an environment in which everything that can be set is set to something else."""
    kernel = home / "jupyter" / "kernels" / "python3"
    startup = home / ".ipython" / "profile_default" / "startup"
    for folder in (kernel, startup, home / ".config" / "matplotlib"):
        folder.mkdir(parents=True)
    (startup / "00.py").write_text("started = True\n")
    spec = {"argv": ["/bin/false", "{connection_file}"], "display_name": "x", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    rc = "text.usetex: True\nfont.size: 30\naxes.labelsize: 40\nfigure.facecolor: red\n"
    (home / ".config" / "matplotlib" / "matplotlibrc").write_text(rc)
    return {
        "HOME": str(home), "JUPYTER_PATH": str(home / "jupyter"), "PYTHONOPTIMIZE": "2",
        "PYTHONWARNINGS": "error", "LANG": "C", "LC_ALL": "C", "JUPYTER_PREFER_ENV_PATH": "0",
        "PYTHONPATH": str(ROOT), "MPLBACKEND": "no such", "OMP_DYNAMIC": "true",
        "IPYTHONDIR": str(home / ".ipython"), "PATH": os.environ["PATH"],
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip


@pytest.mark.slow
def test_a_copied_bundle_runs_its_own_code_whatever_is_set(tmp_path):
    """A copy in a folder with spaces, umlauts and braces, started with the first one's PYTHONPATH,
    by a user without a name where this process may become one."""
    copy = tmp_path / "a {asked} {run} Übung"
    for name in ("lib", "bundle", "params"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "notebooks").mkdir()
    parameters = nbformat.v4.new_code_cell('asked = ""', metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[parameters, nbformat.v4.new_code_cell(PROBE)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "x", "language": "python"}
    nbformat.write(notebook, copy / "notebooks" / "01_probe.ipynb")
    job = {"notebook": str(copy / "notebooks" / "01_probe.ipynb"), "parameters": {"asked": "{x}"}}
    (copy / "job.json").write_text(json.dumps({**job, "output": str(copy / "out.ipynb")}))
    script = (
        "import subprocess, sys\nfrom bundle import surroundings\n"
        "sys.exit(subprocess.run([sys.executable, '-m', 'bundle.runs.kernel', '../job.json'],"
        " cwd='notebooks', env=surroundings.child()).returncode)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=copy, env=hostile(tmp_path / "home"), umask=0o077,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    executed = nbformat.read(copy / "out.ipynb", as_version=4)
    told = json.loads("".join(part["text"] for part in executed.cells[-1].outputs))
    assert told["lib"] == str(copy / "lib" / "__init__.py")
    assert told["bundle"] == str(copy / "bundle" / "__init__.py")
    assert told["python"] == sys.executable and told["asked"] == "{x}"
    assert (told["started"], told["optimised"], told["warnings"]) == (False, 0, [])
    assert told["rc"].endswith("mpl-data/matplotlibrc")
    assert told["drawn"] == {
        "text.usetex": False, "font.size": 10, "figure.facecolor": "white", "drawn over": "medium",
    }  # fmt: skip


def test_a_figure_is_the_same_whatever_a_user_s_matplotlibrc_says():
    def drawn() -> dict:
        return plots.styled(lambda: dict(mpl.rcParams))()

    usual = drawn()
    changed = {"text.usetex": True, "font.size": 30, "savefig.bbox": "tight", "axes.grid": False}
    with mpl.rc_context(changed):
        assert mpl.rcParams["text.usetex"] and drawn() == usual
        assert mpl.rcParams["font.size"] == 30
    assert plots.STYLE.items() <= usual.items() and not usual["text.usetex"]


def test_a_kernel_keeps_its_files_where_a_home_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "MPLCONFIGDIR" not in surroundings.kernel("/k")
    monkeypatch.setattr(os, "access", lambda *_: False)
    settings = surroundings.kernel("/k")
    assert settings["MPLCONFIGDIR"] == "/k/matplotlib" and settings["IPYTHONDIR"] == "/k/ipython"
    assert Path(settings["MATPLOTLIBRC"]).is_file()


def test_a_commit_is_this_repository_s_whatever_a_hook_has_set(monkeypatch):
    known = provenance.commit()
    for name in surroundings.REPOSITORY:
        monkeypatch.setenv(name, "/elsewhere")
    assert provenance.commit() == known


def test_a_copy_inside_another_repository_has_no_commit(tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    (copy / "bundle").mkdir(parents=True)
    (copy / "bundle" / "__main__.py").touch()
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], [*who, "commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    monkeypatch.setattr(paths, "ROOT", copy)
    assert provenance.commit() == {"commit": "unknown", "dirty": None}


def test_a_clone_of_another_owner_is_said_with_the_remedy_of_git(tmp_path, monkeypatch, capsys):
    git = tmp_path / "git"
    git.write_text(
        '#!/bin/sh\necho "fatal: detected dubious ownership in repository" >&2; exit 128'
    )
    git.chmod(0o755)
    assert provenance.refused() == ""  # here git tells the commit, or there is no clone
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert provenance.commit() == {"commit": "unknown", "dirty": None}
    ready.check(params.load("smoke"))
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.rstrip().endswith(f"git config --global --add safe.directory {ROOT}")


def test_tests_commit_whatever_a_user_s_git_is_told(tmp_path, monkeypatch):
    """Signed commits, hooks and templates of a user: tests/conftest.py sets them aside."""
    (tmp_path / "hooks").mkdir()
    for name in ("pre-commit", "commit-msg"):
        (tmp_path / "hooks" / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / "hooks" / name).chmod(0o755)
    (tmp_path / ".gitconfig").write_text(
        f"[commit]\n gpgsign = true\n[core]\n hooksPath = {tmp_path}/hooks\n"
        f"[init]\n templateDir = {tmp_path}/none\n[gpg]\n program = false\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x")
    for arguments in (("init", "-q"), who):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)


SLEEPER = """
import os, pathlib, time
pathlib.Path({told!r}).write_text(os.environ["IPYTHONDIR"])
time.sleep(120)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGTERM to the notebook's process", "SIGKILL of its runner"])
def test_an_interrupted_notebook_leaves_no_sockets_and_no_key(tmp_path, how):
    told, path = tmp_path / "told", tmp_path / "01_a.ipynb"
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(SLEEPER.format(told=str(told)))],
        metadata={"kernelspec": {"name": "python3", "display_name": "", "language": "python"}},
    )
    nbformat.write(notebook, path)
    job = {"notebook": str(path), "output": str(tmp_path / "out.ipynb"), "parameters": {}}
    files.write_json(tmp_path / "job.json", job)
    command = [sys.executable, "-m", "bundle.runs.kernel", str(tmp_path / "job.json")]
    runner = (
        "import subprocess, sys; p = subprocess.Popen(sys.argv[1:], start_new_session=True); "
        "print(p.pid, flush=True); p.wait()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", runner, *command], cwd=ROOT, env=surroundings.child(),
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        pid = int(process.stdout.readline())
        assert until(lambda: told.is_file() and told.read_text())
        folder = Path(told.read_text()).parent
        assert folder.is_dir() and list(folder.iterdir())
        if how.startswith("SIGTERM"):
            os.kill(pid, signal.SIGTERM)
        else:
            process.kill()
        assert until(lambda: not folder.exists())


def until(condition, seconds: float = 60.0) -> bool:
    """Wait until a condition holds; return whether it does."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return bool(condition())


# Threads


@pytest.mark.parametrize(
    ("variables", "threads", "said"),
    [
        ({"OMP_THREAD_LIMIT": "1"}, 2, "OMP_THREAD_LIMIT=1: allows fewer than threads = 2"),
        ({"OMP_THREAD_LIMIT": "3"}, 4, "set threads to 3"),
        ({"OMP_DYNAMIC": "TRUE"}, 2, "OMP_DYNAMIC=TRUE: may give fewer than threads = 2"),
        ({"OMP_THREAD_LIMIT": "2"}, 2, ""),
        ({"OMP_THREAD_LIMIT": ""}, 2, ""),
        ({"OMP_DYNAMIC": "false"}, 2, ""),
        ({"OMP_DYNAMIC": "true"}, 1, ""),
        ({}, 64, ""),
    ],
)
def test_threads_that_would_be_waited_for_are_refused(monkeypatch, variables, threads, said):
    for name in ("OMP_THREAD_LIMIT", "OMP_DYNAMIC"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if not said:
        return surroundings.check_threads(threads)
    with pytest.raises(UserError) as caught:
        surroundings.check_threads(threads)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["run", "train", "verify", "logits"])
def test_commands_that_compute_look_at_the_threads_first(monkeypatch, tmp_path, name):
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    monkeypatch.setenv("OMP_THREAD_LIMIT", "1")
    monkeypatch.setenv("BUNDLE_OFFLINE", "1")
    with pytest.raises(UserError, match="OMP_THREAD_LIMIT=1"):
        main([name, "smoke"])
    assert not list(tmp_path.iterdir())
    assert main(["status", "smoke"]) == 0


# Files that parameters name


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """A bundle's root and a home, each with a set of images, in which the commands look."""
    monkeypatch.setattr(paths, "ROOT", tmp_path / "root")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    content = {b"data": np.zeros((2, 32, 32, 3), np.uint8), b"ids": [3, 4]}
    for folder in ("root", "home", "root/notebooks"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "set.pkl").write_bytes(pickle.dumps(content))
    (tmp_path / "root/notebooks/set.pkl").write_bytes(b"another")
    monkeypatch.chdir(tmp_path / "root/notebooks")
    return tmp_path


@pytest.mark.parametrize(("given", "there"), [(None, "passive"), ("active", "active")])
def test_threads_that_wait_sleep_unless_somebody_says_otherwise(given, there):
    """In a process of its own, and what it starts: before PyTorch is loaded."""
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": given} if given else {}
    code = "import bundle, os; from bundle import surroundings"
    code += "; print(os.environ['OMP_WAIT_POLICY'], surroundings.child()['OMP_WAIT_POLICY'])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.stdout.split() == [there, there], done.stderr


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="an option of glibc's")
def test_memory_is_kept_between_steps():
    """A block of 256 MiB that is freed stays in the process; by default glibc hands it back."""
    code = "import ctypes; libc = ctypes.CDLL(None); libc.malloc.restype = ctypes.c_void_p\n"
    code += "block = libc.malloc(1 << 28); ctypes.memset(block, 1, 1 << 28)\n"
    code += "libc.free(ctypes.c_void_p(block)); print(open('/proc/self/statm').read().split()[1])"
    pages = [
        int(subprocess.run([sys.executable, "-c", start + code], cwd=ROOT, capture_output=True,
                           text=True, check=True).stdout)
        for start in ("import bundle; ", "")
    ]  # fmt: skip
    assert pages[0] - pages[1] > (1 << 27) // resource.getpagesize()


@pytest.mark.parametrize("name", ["set.pkl", "./set.pkl", "~/set.pkl", "notebooks/../set.pkl"])
def test_a_path_means_one_file_for_status_and_notebook(pictures, name):
    folder = "home" if name.startswith("~") else "root"
    whole = pictures / folder / "set.pkl"
    assert read_shifted_set(name)[1].tolist() == [3, 4]
    before = status.fingerprint.of_file(whole)
    assert status._files_named({"shifted_set": name, "epochs": 3, "my_file": ""}) == {
        "shifted_set": before
    }
    whole.write_bytes(pickle.dumps({b"data": np.ones((1, 32, 32, 3), np.uint8), b"ids": [7]}))
    assert status._files_named({"shifted_set": name})["shifted_set"] not in ("", before)
    assert read_shifted_set(name)[1].tolist() == [7]


def test_rows_of_pixels_and_rows_of_planes_are_told_apart(tmp_path):
    """Smooth images in colour, once plane after plane, once pixel after pixel."""
    ramp = np.add.outer(np.arange(32), 2 * np.arange(32))
    colours = np.stack([ramp, 90 - ramp // 2, ramp // 3 + 60], -1).astype(np.uint8)
    images = np.stack([colours, colours[::-1], colours.transpose(1, 0, 2)])
    right = images.transpose(0, 3, 1, 2)
    for name, data in {
        "images": images,
        "planes": right.reshape(3, -1),
        "pixels": images.reshape(3, -1),
    }.items():
        path = tmp_path / f"{name}.pkl"
        path.write_bytes(pickle.dumps({b"data": np.ascontiguousarray(data), b"ids": [1, 2, 3]}))
        assert np.array_equal(read_shifted_set(path)[0], right), name


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (b"PK\x03\x04", "zip"),
        (b"\n<!DOCTYPE html><title>Sign in</title>", "web page"),
        (b"<html>", "web page"),
        (b"v", "no pickle, or only the beginning of one;"),
    ],
)
def test_what_a_file_is_in_place_of_a_pickle_is_said(tmp_path, content, said):
    (tmp_path / "set.pkl").write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_shifted_set(tmp_path / "set.pkl")
    assert said in str(caught.value) and "KeyError" not in str(caught.value)


def test_copies_of_notebooks_are_no_part_of_a_run(tmp_path, monkeypatch):
    names = ("01_a", "02_b", "02_b-Copy1", "02_b (1)", "9_c", "02_b.bak")
    for name in names:
        (tmp_path / f"{name}.ipynb").touch()
    (tmp_path / ".ipynb_checkpoints").mkdir()
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path)
    assert params.notebooks() == ["01_a", "02_b"]


@pytest.fixture
def used(tmp_path, monkeypatch):
    """Folders of the bundle in which JupyterLab, editors and a desktop left their things."""
    for name in ("notebooks", "params"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("notebooks", "params", "params/studies", "lib", "results"):
        place = tmp_path / name
        place.mkdir(exist_ok=True)
        for left in (".ipynb_checkpoints", ".virtual_documents", "__pycache__", ".idea"):
            (place / left).mkdir()
            (place / left / "03_train-checkpoint.ipynb").write_text("{}")
        for left in (".DS_Store", "._smoke.yaml", "._03_train.ipynb", "Thumbs.db", "smoke.yaml~"):
            (place / left).write_bytes(b"\0\1")
    for name in ("notebooks", "params", "results"):
        monkeypatch.setattr(paths, name.upper(), tmp_path / name)
    monkeypatch.setenv("BUNDLE_OFFLINE", "1")
    return tmp_path


def test_what_editors_and_systems_leave_is_passed_over(used, capsys):
    committed = (ROOT / "notebooks").glob("[0-9]*.ipynb")
    assert params.notebooks() == sorted(path.stem for path in committed)
    folders = (ROOT / "params", ROOT / "params" / "ablations")
    assert params.runs() == sorted(path.stem for one in folders for path in one.glob("*.yaml"))
    assert main(["status", "smoke"]) == 0 and main(["study", "jobs", "small"]) == 0
    capsys.readouterr()
    assert main(["strip"]) == 0 and capsys.readouterr().out == ""
    assert main(["pages"]) == 0 and main(["claims"]) == 0 and capsys.readouterr().err == ""


def test_strip_leaves_nothing_of_a_working_session(used, capsys):
    """What JupyterLab, VS Code and Colab write beside the source goes; the bundle's own stays."""
    path = used / "notebooks" / "03_train.ipynb"
    before = path.read_bytes()
    notebook = nbformat.reads(before.decode(), as_version=4)
    notebook.metadata |= {
        "kernelspec": {"display_name": "mine", "language": "python", "name": "my-env"},
        "language_info": {"name": "python", "version": "3.12.1", "file_extension": ".py"},
        "widgets": {"application/vnd.jupyter.widget-state+json": {"state": {}}},
        "colab": {"provenance": []}, "vscode": {"interpreter": {"hash": "0"}},
        "papermill": {"environment_variables": {}},
    }  # fmt: skip
    for cell in notebook.cells:
        cell.metadata |= {"execution": {"iopub.status.busy": "2026"}, "collapsed": True,
                          "jupyter": {"outputs_hidden": True}, "ExecuteTime": {}}  # fmt: skip
        if cell.cell_type == "code":
            cell.outputs = [nbformat.v4.new_output("stream", text="/home/me/secret")]
            cell.execution_count = 3
    nbformat.write(notebook, path)
    assert main(["strip"]) == 0 and path.read_bytes() == before
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("notebooks/03_train.ipynb")
    for name in params.notebooks():  # those that are committed need no change
        committed = (ROOT / "notebooks" / f"{name}.ipynb").read_bytes()
        assert (used / "notebooks" / f"{name}.ipynb").read_bytes() == committed
    path.write_text("{")
    with pytest.raises(UserError, match=r"03_train\.ipynb: no notebook; save it again"):
        main(["strip"])
    assert path.read_text() == "{"


# A training that another directory of the run holds


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A finished training of smoke as 03_train records it, with made-up files."""
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    monkeypatch.setattr("bundle.training.code.of_folder", lambda folder: [])
    folder, given = tmp_path / "smoke", replace(params.load("smoke"), data="digits")
    (folder / "training").mkdir(parents=True)
    (folder / "fingerprints").mkdir()
    for name in ("weights.pt", "state.json", "history.jsonl"):
        (folder / "training" / name).write_text(f'{{"{name}": 1}}')
    digests = {f"training/{path.name}": of_file(path) for path in (folder / "training").iterdir()}
    record = {"before": {"parameters": given.values["03_train"], "data": "digits"}}
    files.write_json(folder / "fingerprints" / "03_train.json", record | {"outputs": digests})
    return folder


def taken(change: str, seed: int | str = "", data: str = "digits") -> str:
    other = replace(params.load("smoke", change, seed), data=data)
    name = adopt.take(other, paths.results(other.name))
    assert bool(name) == (paths.results(other.name) / "training" / "weights.pt").is_file()
    assert not list(paths.RESULTS.glob("*/training.taken"))
    return name


@pytest.mark.parametrize(
    ("change", "of"),
    [
        ("05_confusion.pairs=3", "smoke"),
        ("04_predict_tta.batch_size=100", "smoke"),
        ("04_predict_tta.combination=flip 05_confusion.mistakes=3", "smoke"),
        ("03_train.epochs=3", ""),
        ("seed=3", ""),
        ("threads=1", ""),
        ("precision=fp32", ""),
        ("train_images=50", ""),
    ],
)
def test_a_training_is_taken_over_where_nothing_of_it_differs(trained, change, of):
    assert taken(change) == of


def test_a_training_of_other_data_code_or_bytes_is_not_taken_over(trained, monkeypatch):
    assert taken("05_confusion.pairs=3", data="cifar10") == ""
    assert taken("05_confusion.pairs=3", seed=3) == ""
    with monkeypatch.context() as patch:
        patch.setattr("bundle.training.code.of_folder", lambda folder: ["train_step"])
        assert taken("05_confusion.pairs=3") == ""
    (trained / "training/weights.pt").write_text("others")
    assert taken("05_confusion.pairs=4") == ""
    shutil.rmtree(trained / "training")
    assert taken("05_confusion.pairs=4") == ""


def test_an_own_training_stays(trained):
    other = params.load("smoke", "05_confusion.pairs=3")
    own = paths.results(other.name) / "training.partial"
    own.mkdir(parents=True)
    assert adopt.take(replace(other, data="digits"), own.parent) == ""
    assert [path.name for path in own.parent.iterdir()] == ["training.partial"]


# How a command ends


def raising(error: BaseException):
    def work() -> int:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (files.Failed("it\nfailed"), 1, "error: it\\nfailed"),
        (PermissionError(13, "Permission denied", "results/x"), 1,
         "error: Permission denied (results/x): make it readable and writable, then try again: "),
        (OSError(30, "Read-only file system"), 1, "error: Read-only file system (results/)"),
        (OSError("no answer"), 1, "error: no answer (results/)"),
        (interruption.Interrupted(signal.SIGINT), 130, "interrupted (SIGINT): "),
        (interruption.Interrupted(signal.SIGTERM), 143, "interrupted (SIGTERM): "),
        (KeyboardInterrupt(), 130, "interrupted (SIGINT): "),
    ],
    ids=repr,
)  # fmt: skip
def test_every_end_is_one_line_and_a_code(capsys, error, code, said):
    assert command.guarded(raising(error)) == code
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith(said)


@pytest.mark.parametrize("number", [36, 40, 21, 20])
def test_a_wrong_name_is_bad_input(number):
    with pytest.raises(UserError, match="write another name"):
        command.guarded(raising(OSError(number, os.strerror(number), "n" * 300)))


def test_an_interruption_that_python_would_drop_stops_all_the_same():
    """What a signal raises in a destructor or within an import's callbacks is not lost."""

    class Dropped:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        with pytest.raises(interruption.Interrupted) as caught, interruption.interruptible():
            made = Dropped()
            del made
            time.sleep(1)
        assert caught.value.args == (signal.SIGTERM,)
        assert signal.getsignal(signal.SIGTERM) is interruption.leave
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), handlers, strict=True):
            signal.signal(number, handler)


SENDS = """
import os, signal, sys
def hook(event, parts):
    if event == "import" and parts[0] == os.environ["AT"]:
        os.environ["AT"] = ""
        os.kill(os.getpid(), int(os.environ["SIGNAL"]))
sys.addaudithook(hook)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize(
    "module",
    [
        "bundle.surroundings", "bundle.paths", "argparse", "bundle.command",
        "bundle.files", "bundle.runs", "bundle.runs.params", "yaml", "bundle.checks",
        "lib.settings", "bundle.dataset.cifar10", "hashlib", "bundle.fingerprint",
    ],
)  # fmt: skip
def test_interrupted_while_it_imports_it_says_one_line(tmp_path, module, number):
    (tmp_path / "sitecustomize.py").write_text(SENDS)
    environment = {
        **os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "AT": module, "SIGNAL": str(number.value),
        "BUNDLE_OFFLINE": "1",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "bundle", "status", "smoke"], env=environment, cwd=tmp_path,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 128 + number, done.stderr
    assert done.stdout == "" and done.stderr.startswith(f"interrupted ({number.name}): ")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("home", ["/", None])
def test_a_user_without_a_name_and_a_home(home):
    """As containers and clusters start a process: PyTorch asks for the user's name."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    environment |= {"HOME": home} if home else {}
    code = (
        "import pwd\ndef unknown(*_): raise KeyError('uid not found')\n"
        "pwd.getpwuid = pwd.getpwnam = unknown\nimport bundle, torchvision, pathlib, getpass\n"
        "print(getpass.getuser(), pathlib.Path.home())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd="/", capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout == f"user{os.getuid()} {home or tempfile.gettempdir()}\n", done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "options"),
    [
        ({"PYTHONOPTIMIZE": "2"}, ()),
        ({"PYTHONWARNINGS": "error"}, ("-W", "error")),
        ({"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}, ("-X", "utf8=0")),
        ({"HOME": "/proc/none", "TMPDIR": "/var/tmp"}, ()),
        ({"PYTHONSAFEPATH": "1", "PYTHONDEVMODE": ""}, ()),
        ({"PATH": "/nowhere", "GIT_DIR": "/nowhere"}, ()),
        ({"MPLBACKEND": "no such", "JUPYTER_PATH": "/nowhere", "IPYTHONDIR": "/proc/none"}, ()),
    ],
    ids=str,
)
def test_commands_start_whatever_is_set(tmp_path, variables, options):
    """What it can do, and a refusal that is not ASCII."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME")}
    environment = {**kept, "PYTHONPATH": str(ROOT), "BUNDLE_OFFLINE": "1", **variables}
    for arguments, code in ((("status", "--help"), 0), (("status", "Übung"), 2)):
        done = subprocess.run(
            [sys.executable, *options, "-m", "bundle", *arguments], cwd=tmp_path, umask=0o077,
            env=environment, capture_output=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        assert len(done.stderr.splitlines()) == bool(code), done


# Make


@pytest.fixture
def make(tmp_path):
    """Return a function that calls make in a folder with this Makefile and a Python that echoes."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text('#!/bin/sh\nfor one in "$@"; do printf "<%s>" "$one"; done\necho\n')
    python.chmod(0o755)

    def call(*arguments: str, **variables: str) -> str:
        kept = {key: os.environ[key] for key in ("PATH", "HOME")}
        done = subprocess.run(
            ["make", *arguments, "BIN=bin"], cwd=tmp_path, env={**kept, **variables},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        left = {path.name for path in tmp_path.iterdir()}
        assert left == {"Makefile", "bin"}, f"something was run: {left}"
        return done.stdout + done.stderr

    return call


ATTACKS = ("$(shell touch x)", "$$(touch x)", "`touch x`", "; touch x", '"; touch x; "',
           "'; touch x; '", "$(touch x)", "| touch x", "& touch x", "a\ntouch x\n",
           "${shell touch x}", "$(eval x:;touch x)", "# $(shell touch x)",
           "\\$(shell touch x)")  # fmt: skip
TARGETS = {
    "RUN": "run-all status html pdf verify release", "SET": "run-all", "SEED": "status",
    "UNTIL": "run-all", "RETRAIN": "run-all", "THREADS": "run-all", "TORCH": "status",
    "WEIGHTS": "release", "LOGITS": "release", "RECORD": "release",
    "PLAN": "study-jobs study release-study study-cluster", "TINY": "study-jobs",
    "WAIT": "study-jobs", "PROFILE": "study-cluster", "RUNS": "readme",
    "JOBS": "study-jobs", "LAB": "lab", "A": "compare", "B": "compare",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.hostile
@pytest.mark.parametrize("name", TARGETS)
def test_make_passes_data_never_code(make, name):
    for attack in ATTACKS:
        more = ["JOBS=cpu@1"] if "study-jobs" in TARGETS[name] and name != "JOBS" else []
        for target in TARGETS[name].split():
            make(target, f"{name}={attack}", *more)
            make(target, *more, **{name: attack})


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS[::3])
def test_make_passes_some_data_never_code(make, attack):
    for name, target in (("RUN", "run-all"), ("RUNS", "readme"), ("JOBS", "study-jobs")):
        make(target, f"{name}={attack}")
        make(target, **{name: attack})


@pytest.mark.slow
def test_make_takes_a_folder_with_python3_only(make, tmp_path):
    python = tmp_path / "bin" / "python"
    python.rename(python.with_name("python3"))
    assert "<-m><bundle><status>" in make("status")
    python.with_name("python3").rename(python.with_name("other"))
    assert "BIN=bin: no python there" in make("status")


@pytest.mark.slow
def test_make_clean_needs_no_git(tmp_path):
    """As in an unpacked archive: what is released stays."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("released", "smoke", "studies"):
        (tmp_path / "results" / name).mkdir(parents=True)
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
    subprocess.run(["make", "clean"], cwd=tmp_path, env=environment, check=True)
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["released"]


def test_a_folder_that_python_cannot_import_from_is_refused(tmp_path, monkeypatch):
    """A colon ends a folder in PYTHONPATH: the rest of its name would be another one."""
    monkeypatch.setattr(paths, "ROOT", tmp_path / "a:b")
    with pytest.raises(UserError, match="a:b: Python cannot import from a folder with ':'; rename"):
        surroundings.check_code()
    (tmp_path / "a:b").mkdir()
    shutil.copy(ROOT / "Makefile", tmp_path / "a:b")
    done = subprocess.run(
        ["make", "status"], cwd=tmp_path / "a:b", capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "a:b: Python cannot import from a folder" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_make_passes_what_it_is_given(make):
    given = ("RUN=my run", "SET=a='b c' d=$(e)", "SEED=3", "THREADS=8", "COURSE=x y")
    assert (
        "<run><--until=><--set=a='b c' d=$(e)><--seed=3><--threads=8><--author=><--course=x y>"
    ) in make("run-all", *given)
    assert "<--retrain>" in make("run-all", "RETRAIN=1") and "<run>" in make("run-all")
    for no in ("0", "no", "false", ""):
        assert "<--retrain>" not in make("run-all", f"RETRAIN={no}")
    assert "RETRAIN must be 1 or 0" in make("run-all", "RETRAIN=maybe")
    said = make("study-jobs", "JOBS=a@1 b-c.d@22", "TINY=1", PLAN="mine")
    assert said.count("<study><--tiny><--wait=0><--><job><mine>") == 2 and "<b-c.d@22>" in said
    assert "error: PLAN must name a plan" in make("release-study", "PLAN=../x")
