"""Install the locked packages into an environment: ``make setup`` calls this file as a program.

It runs before any package is there: it imports the standard library only. What can be known is
checked before anything is downloaded. uv installs where it is there, pip otherwise: the same lock,
the same hashes. Only an environment that setup made is ever deleted.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

OWN = ".made-by-setup"  # a file in an environment that setup made
SUPPORTED = "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))"
VERSIONS = "Python 3.11 to 3.14"
LOCK, CPU_LOCK = Path("requirements.txt"), Path("requirements-cpu.txt")
CPU_INDEX = "https://download.pytorch.org/whl/cpu"  # TORCH_INDEX= names another
CUDA = re.compile(r"(torch|torchvision|triton)==|(nvidia|cuda)-")  # of the lock, in a GPU build
GLIBC = (2, 28)  # what the wheels of PyTorch 2.11 ask for (manylinux_2_28)
DISK_GB = {"cuda": 6, "cpu": 3}  # free, before the installation starts
# Settings of a user that would lead packages elsewhere; a site's own index stays.
DIVERTING = (
    "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_CONSTRAINT", "PIP_DRY_RUN", "PYTHONPATH",
    "UV_CONSTRAINT", "UV_OVERRIDE", "UV_EXCLUDE_NEWER", "UV_SYSTEM_PYTHON", "UV_TORCH_BACKEND",
    "UV_PYTHON", "VIRTUAL_ENV",
)  # fmt: skip


class Refused(Exception):
    """What cannot be done, in one line with its remedy."""


def obstacles(venv: Path, torch: str) -> Iterator[str]:
    """Yield, in a line each, why PyTorch cannot be installed on this machine."""
    libc, version = platform.libc_ver()
    if find_spec("fcntl") is None:
        yield "Windows: the bundle runs in WSL2; wsl --install, then the same commands in there"
    elif sys.platform == "darwin" and platform.machine() == "x86_64":
        yield "an Intel Mac: PyTorch has no build for it; notebooks/colab.ipynb runs on Colab"
    elif sys.platform == "linux" and libc != "glibc":
        yield "this Linux has no glibc (Alpine?): PyTorch has no build for it; take Debian's image"
    elif sys.platform == "linux" and tuple(map(int, version.split(".")[:2])) < GLIBC:
        yield f"glibc {version}: PyTorch needs 2.28, as in Debian 10, Ubuntu 20.04, RHEL 8 or later"
    if sys.maxsize < 2**32:
        yield f"{sys.executable}: a 32-bit Python; PyTorch needs one of 64 bits"
    folder = venv.absolute().parent
    free, needed = shutil.disk_usage(folder).free / 1e9, DISK_GB[torch]
    if free < needed and not any(venv.glob(".installed-*")):
        yield f"{folder}: {free:.1f} GB free, the packages take up to {needed} GB; make room"


def is_own(venv: Path) -> bool:
    """Whether setup made an environment; before it left OWN it left its mark of completion only."""
    return (venv / OWN).is_file() or any(venv.glob(".installed-*"))


def works(python: Path, code: str = SUPPORTED) -> bool:
    """Whether an environment's Python starts and is of a supported version, or runs `code`."""
    try:
        return subprocess.run([python, "-c", code], capture_output=True).returncode == 0
    except OSError:
        return False


def make(venv: Path) -> None:
    """Make the environment, anew where setup made it of another Python; Refused if a user did."""
    python = venv / "bin" / "python"
    if works(python) and (shutil.which("uv") or works(python, "import pip")):
        return
    if venv.is_dir() and any(venv.iterdir()):
        if not is_own(venv):
            remedy = "move it away, or name its packages' place with BIN="
            raise Refused(f"{venv}: no {VERSIONS} in it, and it is not setup's own; {remedy}")
        shutil.rmtree(venv)
    venv.mkdir(parents=True, exist_ok=True)
    (venv / OWN).touch()
    if subprocess.run([sys.executable, "-m", "venv", venv], capture_output=True).returncode:
        uv = shutil.which("uv")  # it needs no ensurepip, which Debian packs apart
        options = ["venv", "--quiet", "--allow-existing", "--python", sys.executable, str(venv)]
        if not uv or subprocess.run([uv, *options], env=clean()).returncode:
            remedy = "Debian, Ubuntu: apt install python3-venv; or install uv"
            raise Refused(f"{sys.executable} cannot make a virtual environment; {remedy}")


def clean() -> dict[str, str]:
    """Return this process's environment without what would lead packages elsewhere."""
    return {key: value for key, value in os.environ.items() if key not in DIVERTING} | {
        "PIP_USER": "0"
    }


def pip(python: Path, *arguments: str | Path) -> None:
    """Call ``pip`` on an environment: uv's where uv is there and can do it; Refused if it fails."""
    uv, (command, *rest) = shutil.which("uv"), arguments
    if uv:
        quick = [uv, "pip", command, "--quiet", "--python", python, *rest]
        if subprocess.run(quick, env=clean()).returncode == 0:
            return
        print("uv could not do it (see above); trying again with pip", file=sys.stderr)
    yes = ["--yes"] if command == "uninstall" else []
    options = ["--quiet", "--disable-pip-version-check", *yes]
    if subprocess.run([python, "-m", "pip", command, *options, *rest], env=clean()).returncode:
        raise Refused(f"{command} failed (see above); what is there stays, the next call goes on")


def split(lock: str) -> tuple[str, list[str]]:
    """Return a lock without PyTorch and its CUDA packages, and the names of these."""
    entries = re.split(r"\n(?=\w)", lock)
    names = [re.split("[=;]", entry)[0].strip() for entry in entries if CUDA.match(entry)]
    return "\n".join(entry for entry in entries if not CUDA.match(entry)) + "\n", names


def installed_torch(python: Path) -> str:
    """Return which build of PyTorch an environment holds: "cpu", "cuda", or "" for none."""
    code = "from importlib.metadata import version; print(version('torch'))"
    found = subprocess.run([python, "-P", "-c", code], capture_output=True, text=True).stdout
    return "cpu" if "+cpu" in found else "cuda" if found else ""


def install(python: Path, torch: str) -> None:
    """Install the locked packages, with PyTorch's build for CPUs where `torch` is "cpu"."""
    rest, of_gpu = split(LOCK.read_text(encoding="utf-8"))
    if installed_torch(python) not in ("", torch):
        pip(python, "uninstall", *of_gpu)
    if torch == "cuda":
        return pip(python, "install", "--require-hashes", "-r", LOCK)
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write(rest)
        file.flush()
        pip(python, "install", "--require-hashes", "-r", file.name)
    index = ["--index-url", os.environ.get("TORCH_INDEX") or CPU_INDEX]
    hashed = "--hash=" in CPU_LOCK.read_text(encoding="utf-8")
    if not hashed:
        print(f"{CPU_LOCK} holds no hashes: PyTorch comes as {index[1]} gives it, unchecked")
    pip(python, "install", *index, "--no-deps", *["--require-hashes"] * hashed, "-r", CPU_LOCK)


def announce(venv: Path, torch: str) -> None:
    """Say what will take its time, and what a machine without a GPU could spare."""
    gpu = shutil.which("nvidia-smi") or Path("/dev/nvidiactl").exists()
    if torch == "cuda" and sys.platform == "linux" and not gpu:
        print("no NVIDIA GPU found: make setup TORCH=cpu downloads 0.4 GB, not 2.9")
    tool = "uv, a minute" if shutil.which("uv") else "pip, 2 to 5 minutes"
    print(f"installing the locked packages into {venv} with {tool}; wait ...", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, make the environment, install; return the exit code: 0, or 2 with one line."""
    parser = argparse.ArgumentParser(description="Install the locked packages.")
    parser.add_argument("venv", type=Path)
    parser.add_argument("--torch", default="cuda", choices=DISK_GB)
    args = parser.parse_args(arguments)
    # PyPI's PyTorch is a build for CPUs on other systems.
    torch = args.torch if sys.platform == "linux" else "cuda"
    try:
        for obstacle in obstacles(args.venv, torch):
            raise Refused(obstacle)
        make(args.venv)
        announce(args.venv, torch)
        python = args.venv / "bin" / "python"
        install(python, torch)
        pip(python, "install", "--no-deps", "--no-build-isolation", "-e", ".")
    except (Refused, OSError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: what is installed stays, the next call goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
