"""Where a number comes from: commit, versions, machine."""

import platform
import shlex
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from bundle import paths, surroundings

PACKAGES = ["torch", "torchvision", "numpy", "scikit-learn", "pandas", "matplotlib"]
PACKAGES += ["papermill", "nbconvert"]


def provenance() -> dict[str, Any]:
    """Return where and from what this process runs: commit, dirty or not, versions, machine."""
    return {
        **commit(),
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def commit() -> dict[str, Any]:
    """Return the git commit and whether tracked files differ from it; "unknown" outside a clone."""
    try:
        _git("ls-files", "--error-unmatch", "bundle")  # of this repository, not of one around it
        head, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "-uno")
    except (OSError, subprocess.CalledProcessError):
        return {"commit": "unknown", "dirty": None}
    return {"commit": head, "dirty": bool(changes)}


def refused() -> str:
    """Return git's refusal of a clone of another owner with its remedy, "" where it tells all."""
    try:
        _git("rev-parse", "HEAD")
    except OSError:
        return ""
    except subprocess.CalledProcessError as error:
        if "dubious ownership" not in error.stderr:
            return ""
        remedy = f"git config --global --add safe.directory {shlex.quote(str(paths.ROOT))}"
        return f"git: this folder has another owner, so results name no commit; remedy: {remedy}"
    return ""


def _git(*command: str) -> str:
    environment = {**surroundings.without(surroundings.REPOSITORY), "LC_ALL": "C"}
    options: dict[str, Any] = {"cwd": paths.ROOT, "env": environment, "text": True}
    done = subprocess.run(["git", *command], **options, capture_output=True, check=True)
    return done.stdout.strip()


def _version(package: str) -> str:
    """Return a package's version, "" where it is not installed: training alone needs few."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
