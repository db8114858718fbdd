"""A disk that is full or read-only: every command says so in one line, earlier results stay."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib.errors import UserError

# Every command that writes below results/.
COMMANDS = {
    "run": ("run", "smoke", "--retrain"), "train": ("train", "smoke", "--retrain"),
    "verify": ("verify", "smoke"), "release": ("release", "smoke"), "logits": ("logits", "smoke"),
    "claims": ("claims",), "pages": ("pages", "smoke"), "index": ("pages",),
    "collect": ("study", "collect", "small"),
}  # fmt: skip
SPARE = 2**20  # bytes of a disk beside the results on it


def mounted(*command: str) -> None:
    done = subprocess.run(["mount", *command], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"only root may mount: {done.stderr.strip()}")


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of the files below a folder, but of locks."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix)
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in found
    }


@pytest.fixture
def kept(finished, name) -> Iterator[Path]:
    """The results of a finished run without an index; for `pages` with a page that it mends."""
    results = finished.folder / "results"
    report = results / "smoke" / "report.html"
    whole = report.read_bytes()
    if name == "pages":
        report.write_text("damaged")
    (results / "index.html").unlink(missing_ok=True)
    yield results
    report.write_bytes(whole)


@pytest.fixture
def read_only(kept) -> Iterator[None]:
    mounted("--bind", str(kept), str(kept))
    mounted("-o", "remount,ro,bind", str(kept))
    yield
    subprocess.run(["umount", str(kept)], check=True)


@pytest.fixture
def full(kept) -> Iterator[None]:
    size = sum(path.stat().st_size + 4096 for path in kept.rglob("*")) + SPARE
    copy = kept.with_name("results-before")
    shutil.copytree(kept, copy)
    mounted("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(kept))
    shutil.copytree(copy, kept, dirs_exist_ok=True)
    with pytest.raises(OSError, match="No space"), (kept / "filler.bin").open("wb") as file:
        while True:
            file.write(os.urandom(4096))
            file.flush()
    yield
    subprocess.run(["umount", str(kept)], check=True)
    shutil.rmtree(copy)


def refused(call, bundle, arguments: tuple[str, ...]) -> str:
    """Return the last line of a command that must fail with code 1 or 2."""
    try:
        done = call(bundle, *arguments)
    except UserError as error:  # what the entry says in one line, with code 2
        return str(error)
    assert done.returncode == 1, (arguments, done.stdout, done.stderr)
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_read_only_disk_is_one_line(finished, read_only, call, name):
    before = digests(finished.folder / "results")
    assert "Read-only file system" in refused(call, finished, COMMANDS[name])
    assert digests(finished.folder / "results") == before


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_one_line_and_earlier_results_stay(finished, full, call, name):
    results = finished.folder / "results"
    before = digests(results)
    assert "No space left on device" in refused(call, finished, COMMANDS[name])
    after = digests(results)
    assert {path: after.get(path) for path in before} == before
    assert not [path for path in after if path.endswith(".writing")]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["status"])
def test_status_writes_nothing(finished, read_only, call, name):
    done = call(finished, "status", "smoke")
    assert done.returncode == 0 and "smoke: " in done.stdout and not done.stderr
