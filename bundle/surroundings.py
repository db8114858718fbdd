"""What a shell, a site or a user may have set, and what of it reaches the bundle's processes.

Children import the `lib` and `bundle` of the runner, whatever is installed; IPython, Jupyter,
Matplotlib and Python start from their defaults; a user need not have a name or a home.
"""

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path

from bundle import paths
from lib.errors import UserError

# What a user's own settings would change in a kernel. PYTHONHOME is not here: it may be needed.
FOREIGN = (
    "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_CONFIG_PATH", "JUPYTER_DATA_DIR", "JUPYTER_PATH",
    "JUPYTER_PLATFORM_DIRS", "JUPYTER_PREFER_ENV_PATH", "MATPLOTLIBRC", "MPLBACKEND",
    "PYTHONDEVMODE", "PYTHONINSPECT", "PYTHONOPTIMIZE", "PYTHONSAFEPATH", "PYTHONSTARTUP",
    "PYTHONWARNINGS",
)  # fmt: skip
# By which a hook or an editor points git to another repository.
REPOSITORY = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX")
THREAD_LIMIT, DYNAMIC = "OMP_THREAD_LIMIT", "OMP_DYNAMIC"


def settle() -> None:
    """Set for this process, before PyTorch is loaded, what must be there and may be missing."""
    import pwd

    with contextlib.suppress(KeyError):
        pwd.getpwuid(os.getuid())
        return _fix_threads()
    # Containers and clusters give ids without a name. PyTorch asks for one, others for a home.
    if not {"LOGNAME", "USER", "LNAME", "USERNAME"} & {
        key for key in os.environ if os.environ[key]
    }:
        os.environ["USER"] = f"user{os.getuid()}"
    os.environ.setdefault("HOME", tempfile.gettempdir())
    return _fix_threads()


def _fix_threads() -> None:
    """Fewer threads than were asked for would wait for ever for those that never came."""
    if DYNAMIC in os.environ and "torch" not in sys.modules:
        os.environ[DYNAMIC] = "false"


def check_threads(threads: int) -> None:
    """Raise UserError where the environment gives fewer threads than a training waits for."""
    limit, dynamic = os.environ.get(THREAD_LIMIT, ""), os.environ.get(DYNAMIC, "")
    if limit.strip().isdigit() and int(limit) < threads:
        remedy = f"unset {THREAD_LIMIT}, or set threads to {limit}"
        raise UserError(f"{THREAD_LIMIT}={limit}: allows fewer than threads = {threads}; {remedy}")
    if threads > 1 and dynamic.strip().lower() in ("true", "1", "yes"):
        remedy = f"unset {DYNAMIC}; with it a training may wait for ever"
        raise UserError(f"{DYNAMIC}={dynamic}: may give fewer than threads = {threads}; {remedy}")


def without(names: Collection[str]) -> dict[str, str]:
    """Return the environment of this process without some of its variables."""
    return {key: value for key, value in os.environ.items() if key not in names}


def child(**more: str) -> dict[str, str]:
    """Return the environment of a process of the bundle: this one's code, nobody's own settings.

    Raises UserError where the bundle's folder cannot stand in PYTHONPATH.
    """
    _check_folder()
    kept = without(FOREIGN)
    others = [part for part in kept.get("PYTHONPATH", "").split(os.pathsep) if part]
    others = [part for part in others if part != str(paths.ROOT)]
    kept["PYTHONPATH"] = os.pathsep.join([str(paths.ROOT), *others])
    return {**kept, **more}


def kernel(folder: str) -> dict[str, str]:
    """Return what more a kernel's environment holds; `folder` takes what IPython and others keep.

    A profile of IPython may run code at its start, a matplotlibrc changes every figure.
    """
    settings = {"IPYTHONDIR": f"{folder}/ipython", "JUPYTER_RUNTIME_DIR": folder}
    if package := find_spec("matplotlib"):
        plain = Path(package.origin).parent / "mpl-data" / "matplotlibrc"
        settings["MATPLOTLIBRC"] = str(plain)
    if "MPLCONFIGDIR" not in os.environ and not os.access(Path("~").expanduser(), os.W_OK):
        settings["MPLCONFIGDIR"] = f"{folder}/matplotlib"  # else it says so on the page
    return settings


def readable(path: Path) -> bool:
    """Whether this user may read a file."""
    return os.access(path, os.R_OK)


def _check_folder() -> None:
    if os.pathsep in str(paths.ROOT):
        raise UserError(f"{paths.ROOT}: Python cannot import from a folder with ':'; rename it")


def check_code() -> None:
    """Raise UserError where a notebook imports another bundle's code than that beside it.

    That is so in a copy of a bundle whose environment still points to the first, and where the
    bundle's folder cannot stand in PYTHONPATH.
    """
    import lib

    _check_folder()

    here, cwd = Path(__file__).resolve().parent.parent, Path.cwd()
    own = cwd.parent if cwd.name == "notebooks" and (cwd.parent / "bundle").is_dir() else here
    for folder in (Path(lib.__file__).resolve().parent.parent, here):
        if folder != own.resolve():
            remedy = f"start it with `make lab` in {own}, or set PYTHONPATH={own}"
            raise UserError(f"{folder}: its code is imported, not that of {own}; {remedy}")


def plain_streams() -> None:
    """Let standard output and error show any text, and no warning end a command."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if sys.warnoptions:
        warnings.resetwarnings()
        warnings.simplefilter("ignore")
