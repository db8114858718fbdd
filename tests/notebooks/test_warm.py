"""Notebooks forked from the server of a run: what they inherit, what they do not, who ends them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

from bundle import files, paths, surroundings
from bundle.runs import launch
from tests import preloaded

PROBE = """
import ctypes, json, os, sys
theirs = sorted(name for name in sys.modules if name.partition(".")[0] in ("bundle", "lib"))
import bundle, lib.probe, matplotlib, matplotlib.pyplot as plt, torch
libc = ctypes.CDLL(None); libc.malloc.restype = ctypes.c_void_p
block = libc.malloc(1 << 28); ctypes.memset(block, 1, 1 << 28); libc.free(ctypes.c_void_p(block))
held = int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
plt.figure(figsize=(1, 1)); plt.plot([1, 2]); plt.show()
print(json.dumps({
    "theirs": theirs, "value": lib.probe.VALUE, "bundle": bundle.__file__, "held": held,
    "gpu": torch.cuda.is_initialized(), "fork": torch.cuda._is_in_bad_fork(),
    "torch threads": torch.get_num_threads(), "path": sys.path, "flags": str(sys.flags),
    "backend": matplotlib.get_backend(), "rc": matplotlib.matplotlib_fname(), "cwd": os.getcwd(),
    "session": os.getsid(0) == os.getpid(), "stage": os.environ["STAGE"], "parent": os.getppid(),
    "known parent": os.environ["JPY_PARENT_PID"], "waiting": os.environ["OMP_WAIT_POLICY"],
}))
"""
SLEEPER = """
import json, os, pathlib, time
pid, parent = os.getpid(), os.getppid()
told = {"pids": [pid, parent], "folder": str(pathlib.Path(os.environ["IPYTHONDIR"]).parent)}
pathlib.Path(os.environ["STAGE"]).write_text(json.dumps(told))
time.sleep(120)
"""
RUNNER = """
import sys, time
from pathlib import Path
from bundle.runs import launch
job, log, told = sys.argv[1:]
with launch.Server() as server:
    process = server.start(Path(job), Path(log), {"STAGE": told})
    print(server.process.pid, process.pid, flush=True)
    process.wait()
"""
slow = pytest.mark.slow
linux = pytest.mark.skipif(sys.platform != "linux", reason="notebooks are forked on Linux alone")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the code with a module to change, and two notebooks."""
    folder = tmp_path_factory.mktemp("warm")
    for name in ("lib", "bundle"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(paths.ROOT / name, folder / name, ignore=ignored)
    (folder / "notebooks").mkdir()
    spec = {"name": "python3", "display_name": "", "language": "python"}
    for name, source in (("probe", PROBE), ("sleeper", SLEEPER)):
        cell = nbformat.v4.new_code_cell(source)
        notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": spec})
        nbformat.write(notebook, folder / "notebooks" / f"{name}.ipynb")
        job = {"notebook": str(folder / f"notebooks/{name}.ipynb"), "parameters": {}}
        files.write_json(folder / f"{name}.json", {**job, "output": str(folder / "out.ipynb")})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "ROOT", folder)
        patch.setattr(paths, "NOTEBOOKS", folder / "notebooks")
        yield folder


@pytest.fixture(scope="module")
def server(copy):
    with launch.Server() as made:
        yield made


def execute(copy: Path, start: launch.Start, value: int) -> SimpleNamespace:
    """Execute the probe with `value` in a module of lib; return what it tells, and its picture."""
    (copy / "lib" / "probe.py").write_text(f"VALUE = {value}\n" + "#" * value)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OMP_NUM_THREADS")  # so that OpenBLAS has threads, where there are cores
        process = start(copy / "probe.json", copy / "log.txt", {"STAGE": "/a stage"})
    assert process.wait(120) == process.poll() == 0, (copy / "log.txt").read_text()
    outputs = nbformat.read(copy / "out.ipynb", as_version=4).cells[0].outputs
    (picture,) = [part.data["image/png"] for part in outputs if "data" in part]
    told = json.loads("".join(part.get("text", "") for part in outputs))
    return SimpleNamespace(process=process, picture=picture, told=told)


@linux
@slow
def test_a_forked_notebook_is_as_a_cold_one_and_sees_the_code_as_it_is_then(copy, server):
    forked, again = (execute(copy, server.start, value) for value in (1, 20))
    cold = execute(copy, launch.cold, 300)
    assert [type(one.process) for one in (forked, again, cold)] == [
        launch.Process, launch.Process, subprocess.Popen,
    ]  # fmt: skip
    assert [one.told.pop("value") for one in (forked, again, cold)] == [1, 20, 300]
    for one in (forked, again, cold):
        assert int(one.told.pop("known parent")) == one.told.pop("parent") == one.process.pid
        assert one.told.pop("held") > 1 << 28  # memory is kept between steps
    assert forked.told == again.told == cold.told
    assert forked.picture == again.picture == cold.picture
    assert cold.told["theirs"] == [] and cold.told["session"]
    assert not cold.told["gpu"] and not cold.told["fork"]
    assert cold.told["bundle"] == str(copy / "bundle" / "__init__.py")


@linux
@slow
def test_the_server_has_one_thread_and_holds_no_gpu(copy, server):
    execute(copy, server.start, 1)
    folder = Path("/proc", str(server.process.pid))
    assert len(list((folder / "task").iterdir())) == 1
    opened = [str(path.readlink()) for path in (folder / "fd").iterdir()]
    assert not [path for path in opened if "nvidia" in path]


def sleeping(copy: Path, told: Path) -> dict:
    """Return what the sleeper tells, once it sleeps."""
    assert until(lambda: told.is_file() and told.read_text().endswith("}"))
    return json.loads(told.read_text())


def gone(*pids: int) -> bool:
    """Whether these processes have ended: a zombie has."""
    for pid in pids:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                return False
        except (FileNotFoundError, ProcessLookupError):
            pass
    return True


def until(condition, seconds: float = 60.0) -> bool:
    """Wait until a condition holds; return whether it does."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return bool(condition())


@linux
@slow
def test_a_killed_runner_leaves_nothing_behind(copy, tmp_path):
    told = tmp_path / "told"
    command = [sys.executable, "-c", RUNNER, copy / "sleeper.json", tmp_path / "log.txt", told]
    with subprocess.Popen(
        command, cwd=copy, env=surroundings.child(), stdout=subprocess.PIPE, text=True
    ) as process:
        server, notebook = map(int, process.stdout.readline().split())
        state = sleeping(copy, told)
        kernel, parent = state["pids"]
        assert parent == notebook and not gone(server) and Path(state["folder"]).is_dir()
        process.kill()
    assert until(lambda: gone(server, notebook, kernel))
    assert not Path(state["folder"]).exists()


@linux
@slow
def test_an_ended_notebook_takes_its_kernel_along(copy, server, tmp_path):
    """It is asked to end; then the server is killed, and later notebooks start without it."""

    def begun(name: str) -> tuple[launch.Started, dict]:
        told = str(tmp_path / name)
        process = server.start(copy / "sleeper.json", tmp_path / "log.txt", {"STAGE": told})
        return process, sleeping(copy, Path(told))

    process, state = begun("first")
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.terminate()
    assert process.wait(20) != 0 and not Path(state["folder"]).exists()
    assert until(lambda: gone(*state["pids"]))
    process, state = begun("second")
    server.process.kill()
    assert process.wait(20) == -signal.SIGKILL
    assert until(lambda: gone(*state["pids"]))
    other = server.start(copy / "sleeper.json", tmp_path / "log.txt", {})
    assert isinstance(other, subprocess.Popen)
    other.kill()
    other.wait()


@linux
@slow
def test_a_command_runs_in_a_fork_of_the_server_or_not_at_all(bundle, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", bundle.folder)
    monkeypatch.setattr(paths, "NOTEBOOKS", bundle.folder / "notebooks")
    with launch.Server() as server:
        assert server.command("pages") == 1 and server.process is None
        server._begin()
        assert server.command("pages") == 0 and (bundle.folder / "results/index.html").is_file()
        assert server.command("pages", "no such run") == 2
        assert server.command("pages") == 0
        server.process.kill()
        assert server.command("pages") != 0


def test_where_nothing_can_fork_a_notebook_starts_cold(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "can_fork", lambda: False)
    with launch.Server() as server:
        process = server.start(tmp_path / "none.json", tmp_path / "log.txt", {})
        assert server.process is None and isinstance(process, subprocess.Popen)
        process.kill()
        assert process.wait() == -signal.SIGKILL


def test_what_decides_whether_notebooks_are_forked(monkeypatch):
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    monkeypatch.setattr(os, "access", lambda *_: True)
    monkeypatch.setattr(sys, "platform", "linux")
    assert launch.can_fork()
    monkeypatch.setattr(os, "access", lambda *_: False)  # a home that cannot be written
    assert not launch.can_fork()
    monkeypatch.setenv("MPLCONFIGDIR", "/own")
    assert launch.can_fork()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not launch.can_fork()


@linux
@slow
def test_a_command_that_tests_fork_is_as_one_of_its_own(bundle):
    """What it prints and returns, with its environment; what is read early makes it cold."""
    for arguments in (["status", "smoke"], ["run", "none"], ["--help"], ["data"]):
        forked, cold = (run("bundle", *arguments) for run in (bundle.run, bundle.run_cold))
        for part in ("returncode", "stdout", "stderr"):
            assert getattr(forked, part) == getattr(cold, part), arguments
    assert preloaded.can_run(("bundle", "status"), bundle.environment)
    for changed in ({"PYTHONOPTIMIZE": "2"}, {"OMP_NUM_THREADS": "2"}):
        assert not preloaded.can_run(("bundle", "status"), bundle.environment | changed)
    assert not preloaded.can_run(("bundle.runs.kernel",), bundle.environment)
