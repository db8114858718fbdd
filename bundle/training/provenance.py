"""Where a number comes from: commit, versions, machine."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from bundle import paths, surroundings

# fmt: off
PACKAGES = (
    "torch", "torchvision", "numpy", "scikit-learn", "pandas", "matplotlib", "papermill",
    "nbconvert",
)
# fmt: on


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
    asked = (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
    options = {"cwd": paths.ROOT, "capture_output": True, "text": True, "check": True}
    options["env"] = surroundings.without(surroundings.REPOSITORY)
    try:
        done = [subprocess.run(["git", *command], **options) for command in asked]
    except (OSError, subprocess.CalledProcessError):
        return {"commit": "unknown", "dirty": None}
    head, changes = (one.stdout.strip() for one in done)
    return {"commit": head, "dirty": bool(changes)}


def _version(package: str) -> str:
    """Return a package's version, "" where it is not installed: training alone needs few."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
