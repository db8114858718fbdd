"""Where a number comes from: commit, versions, machine."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from lib import paths

PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "pandas", "matplotlib", "papermill", "nbconvert")


def provenance() -> dict[str, Any]:
    """Return where and from what this process runs: commit, whether the tree is dirty, versions, machine."""
    return {
        **commit(),
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def commit() -> dict[str, Any]:
    """Return the git commit and whether tracked files differ from it; "unknown" outside a repository."""
    try:
        head, changes = (
            subprocess.run(["git", *command], cwd=paths.ROOT, capture_output=True, text=True, check=True).stdout.strip()
            for command in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.CalledProcessError):
        return {"commit": "unknown", "dirty": None}
    return {"commit": head, "dirty": bool(changes)}


def _version(package: str) -> str:
    """Return a package's version, "" where it is not installed: training alone needs few of them."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
