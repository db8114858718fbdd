"""What a shell, a site or a user may have set, and what of it reaches the bundle's processes.

Children import the `lib` and `bundle` of the runner, whatever is installed; IPython, Jupyter,
Matplotlib and Python start from their defaults; a user need not have a name or a home.
"""

import contextlib
import ctypes
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

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
WAITING = "OMP_WAIT_POLICY"
# Options of mallopt, from glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
MOST_THREADS = 256  # the highest value of the parameter threads
# What a run needs, by the name that is imported; every command needs the first three.
PACKAGES = {"yaml": "pyyaml", "filelock": "filelock", "torch": "torch", "sklearn": "scikit-learn"}
PACKAGES |= {name: name for name in (
    "torchvision", "numpy", "scipy", "pandas", "matplotlib", "seaborn", "papermill", "nbconvert",
    "nbclient", "ipykernel", "rich", "latex2mathml", "requests", "safetensors",
)}  # fmt: skip


def settle() -> None:
    """Set for this process, before PyTorch is loaded, what must be there and may be missing.

    Leaves with a line and exit code 2 where nothing could work: on Windows itself, and as a command
    without the packages that all commands need.
    """
    try:
        import fcntl as fcntl
        import pwd
    except ImportError:
        _leave("Windows: the bundle runs in WSL2; wsl --install, then the same commands in there")
    if sys.argv[:1] == ["-m"] and {"pyyaml", "filelock", "torch"} & {*(absent := missing())}:
        _leave(_without_packages(absent))
    keep_memory()
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


def _leave(line: str) -> NoReturn:
    """End this process with a line: it is still importing, so nothing catches an error."""
    print(f"error: {line}", file=sys.stderr)
    raise SystemExit(2)


def missing() -> list[str]:
    """Return the packages of a run that this Python does not have."""
    return [package for module, package in PACKAGES.items() if not _is_there(module)]


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # what blocks imports does it in one of these ways
        return False


def _without_packages(names: Collection[str]) -> str:
    remedy = f"{sys.executable} -m pip install {' '.join(names)}; or make setup, without BIN="
    return f"{sys.prefix}: no package {', '.join(names)} there; {remedy}"


def check_packages(name: str | None = None) -> None:
    """Raise UserError, which names all, where packages of a run or the one `name` are missing."""
    if absent := missing() or ([name] if name else []):
        raise UserError(_without_packages(absent))


def without_grammar() -> None:
    """Spare who imports nbformat two seconds, for a check that notebooks do not use.

    jsonschema compiles a grammar of web addresses where this package is; it does without where its
    import fails.
    """
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]  # makes it fail


def cores() -> int:
    """Return the cores that this process may compute with: what ``threads: auto`` means.

    Without hyper-threads, within the limits of affinity, containers and OMP_THREAD_LIMIT.
    """
    import joblib  # late: only for this

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it counts hyper-threads where it cannot tell
        found = joblib.cpu_count(only_physical_cores=True)
    limit = os.environ.get(THREAD_LIMIT, "").strip()
    allowed = int(limit) if limit.isdigit() else MOST_THREADS
    return max(1, min(found, allowed, MOST_THREADS))


def check_gpu(device: str) -> None:
    """Raise UserError where a GPU is there that this PyTorch is too new for, or for its driver.

    Otherwise PyTorch fails at the first kernel, and takes the CPU with no more than a warning.
    """
    if device == "cpu" or not _driver_is_here():
        return
    import torch  # late: it takes 3 s

    if not torch.version.cuda:
        return
    build = f"PyTorch {torch.__version__} (CUDA {torch.version.cuda})"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        there = torch.cuda.is_available()
    if not there:
        return _check_driver(build)
    # Such as sm_75; what is built for 8.6 runs on 8.9, too.
    known = [int(re.sub(r"\D", "", arch)) for arch in torch.cuda.get_arch_list() if "sm_" in arch]
    major, minor = torch.cuda.get_device_capability()
    if known and 10 * major + minor < min(known):
        what = f"{torch.cuda.get_device_name()} (compute capability {major}.{minor}): too old for"
        least = f"it needs {min(known) / 10:.1f}"
        raise UserError(f"{what} {build}, {least}; take another GPU, or write device: cpu")


def _driver_is_here() -> bool:
    """Whether an NVIDIA driver may be here: on Linux it shows itself (in WSL as dxg)."""
    return sys.platform != "linux" or any(Path("/dev").glob("nvidia*")) or Path("/dev/dxg").exists()


def _check_driver(build: str) -> None:
    try:
        import torch

        torch.cuda.init()  # tells why no GPU is available
    except (RuntimeError, AssertionError) as error:
        if "too old" in str(error):
            remedy = "update the driver, make setup TORCH=cpu, or write device: cpu"
            raise UserError(f"the NVIDIA driver is too old for {build}: {remedy}") from error


def _fix_threads() -> None:
    """Let threads that wait sleep, and all come that were asked for, or some would wait for ever.

    A thread that waits awake takes a core from whatever else runs here, and the other threads then
    wait for that.
    """
    if "torch" in sys.modules:
        return
    os.environ.setdefault(WAITING, "passive")
    if DYNAMIC in os.environ:
        os.environ[DYNAMIC] = "false"


def keep_memory() -> bool:
    """Let this process keep what PyTorch frees, for the next step; return whether it can (glibc).

    Memory that goes back to the kernel after each step is cleared and mapped anew in the next one.
    The same bits, faster; `python -m benchmarks.kept` measures by how much.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))


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
    if (package := find_spec("matplotlib")) and package.origin:
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
