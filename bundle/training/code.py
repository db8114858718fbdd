"""Whether code that changed since a training changed its bits.

known_code.json holds versions of the code: its commit, its digests (`fingerprint.of_loop`; of code
before these also the files' SHA-256, which old trainings recorded), and the bits that the tiny
trainings of tests/golden.py ended with, by precision. Two versions with equal bits give the same
trainings. `python -m tests.known_code` writes it, from git; tests/lib/test_golden.py holds it.
"""

import functools
import json
from pathlib import Path
from typing import Any

from bundle import fingerprint
from bundle.files import intact, read_json, seal, write_json
from bundle.training.provenance import commit

FILE = Path(__file__).with_name("known_code.json")
VERIFIED = "verified.json"  # beside state.json: the code that `make verify` found to give its bits


def changed(summary: dict[str, Any], verified: dict[str, Any] | None = None) -> list[str]:
    """Return the definitions that changed since a training and may change its bits, [] if none did.

    Args:
        summary: what its state.json, or a checkpoint's identity, says: "code" and "compute".
        verified: what `record` wrote of it.
    """
    then, now = summary["code"], fingerprint.of_loop()
    if then == now or (verified or {}).get("code") == fingerprint.of_value(now):
        return []
    before, after = _known(then), _known(now)
    precision = summary["compute"]["precision"]
    if before and after and before["bits"][precision] == after["bits"][precision]:
        return []
    return fingerprint.differences(before["definitions"] if before else then, now)


def of_folder(folder: Path) -> list[str]:
    """Return what `changed` does for the finished training in a folder, [] where there is none."""
    summary = read_json(folder / "state.json")
    return changed(summary, verified(folder)) if summary else []


def verified(folder: Path) -> dict[str, Any]:
    """Return what `record` noted beside a finished training, {} where nothing or it is damaged."""
    return read_json(folder / VERIFIED) if intact(folder / VERIFIED) else {}


def record(folder: Path) -> None:
    """Note beside a finished training that the code that is here gives the same bits."""
    now = {"code": fingerprint.of_value(fingerprint.of_loop()), **commit()}
    write_json(folder / VERIFIED, now)
    seal(folder, VERIFIED)


def _known(code: dict[str, str]) -> dict[str, Any] | None:
    """Return the version of the code with these digests, by definition or by file."""
    digest = fingerprint.of_value(code)
    return next((one for one in _versions() if digest in (one["digest"], one.get("files"))), None)


@functools.cache
def _versions() -> list[dict[str, Any]]:
    return json.loads(FILE.read_text(encoding="utf-8"))
