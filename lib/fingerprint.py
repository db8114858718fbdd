"""Fingerprints by content: of files, of plain values, and of the lib modules that code uses."""

import ast
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lib import paths


def of_value(value: Any) -> str:
    """Return the SHA-256 of a plain value (numbers, text, lists, dicts), in any order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def of_file(path: Path) -> str:
    """Return the SHA-256 of a file, or "" where there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def imported_modules(source: str) -> set[str]:
    """Return the lib modules that Python source imports itself, such as {"data"} for lib.data."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {
                name.name.split(".")[1] for name in node.names if name.name.startswith("lib.")
            }
        elif isinstance(node, ast.ImportFrom) and node.module == "lib":
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lib."):
            found.add(node.module.split(".")[1])
    return found


def of_files(names: Iterable[str]) -> dict[str, str]:
    """Return file -> SHA-256 for these lib modules alone."""
    return {f"lib/{name}.py": of_file(paths.ROOT / "lib" / f"{name}.py") for name in names}


def of_modules(names: Iterable[str]) -> dict[str, str]:
    """Return file -> SHA-256 for these lib modules and all that they import, also indirectly."""
    waiting, hashes = set(names), {}
    while waiting:
        path = paths.ROOT / "lib" / f"{waiting.pop()}.py"
        key = f"lib/{path.name}"
        if key not in hashes and path.is_file():
            hashes[key] = of_file(path)
            waiting |= imported_modules(path.read_text(encoding="utf-8"))
    return dict(sorted(hashes.items()))


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return one phrase per differing key, such as "epochs 3 -> 4"; hashes stay unprinted."""
    phrases = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if before != after:
            is_hash = any(isinstance(value, str) and len(value) == 64 for value in (before, after))
            phrases.append(key if is_hash else f"{key} {_shown(before)} -> {_shown(after)}")
    return phrases


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)
