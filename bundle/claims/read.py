"""params/studies/claims.yaml, read and checked: bad input is a line with claim, key, remedy."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from bundle import paths
from bundle.claims.claim import KINDS, SOURCES, Claim, Reference
from bundle.inputs import check_keys, read_file
from bundle.runs import results
from lib.errors import UserError, nearest

NEEDED = ("id", "kind", "claim", "where", "words", "weight", "test")
TEXTS = ("id", "kind", "claim", "where", "words", "test", "reported")
WEIGHTS = range(1, 10)


def read(path: Path, tests: Mapping[str, Callable]) -> list[Claim]:
    """Return `path`'s claims, judged by `tests` (name -> function); UserError for what is wrong."""
    where = paths.shown(path)
    entries = read_file(path, where)
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{where}: must be a list of claims, each with {', '.join(NEEDED)}")
    reference, claims = results.reference(), []
    for number, entry in enumerate(entries, 1):
        claims.append(_claim(entry, reference, tests, f"{where}: claim {number}"))
        if claims[-1].id in [claim.id for claim in claims[:-1]]:
            same = f"another claim has the id '{claims[-1].id}', too; rename one"
            raise UserError(f"{where}: claim {number}: {same}")
    return claims


def _claim(entry: Any, reference: Reference, tests: Mapping[str, Callable], where: str) -> Claim:
    """Return one entry as a claim, the numbers it names in braces filled in."""
    if not isinstance(entry, dict):
        raise UserError(f"{where}: must have the keys {', '.join(NEEDED)}, not be {entry!r}")
    where = f"{where} ({entry['id']})" if isinstance(entry.get("id"), str) else where
    check_keys(entry, [field.name for field in fields(Claim)], where)
    if missing := [key for key in NEEDED if key not in entry]:
        raise UserError(f"{where}: '{missing[0]}' is missing; add it")
    _check_values(entry, where)
    if entry["test"] not in tests:
        near = nearest(entry["test"], list(tests))
        raise UserError(f"{where}: unknown test {entry['test']!r}{near}; tests: {', '.join(tests)}")
    _check_tolerance(entry, tests[entry["test"]], where)
    texts = {
        key: _filled(entry[key], reference, where)
        for key in ("claim", "words", "reported")
        if key in entry
    }
    return Claim(**{**entry, **texts})


def _check_values(entry: dict[str, Any], where: str) -> None:
    for key in TEXTS:
        if key in entry and (not isinstance(entry[key], str) or not entry[key].strip()):
            raise UserError(f"{where}: {key} = {entry[key]!r}: must be text (quote it)")
    if type(entry["weight"]) is not int or entry["weight"] not in WEIGHTS:
        raise UserError(f"{where}: weight = {entry['weight']!r}: must be a whole number, 1 to 9")
    place, _colon, _part = entry["where"].partition(":")
    for key, value, names in (("kind", entry["kind"], KINDS), ("where", place, SOURCES)):
        if value not in names:
            more = ", then ': ' and the place in it" * (key == "where")
            listed = ", ".join(names)
            raise UserError(f"{where}: {key} = {entry[key]!r}: must be one of {listed}{more}")


def _check_tolerance(entry: dict[str, Any], test: Callable, where: str) -> None:
    tolerance: Any = entry.get("tolerance")
    needed = "tolerance" in inspect.signature(test).parameters
    if not needed and "tolerance" in entry:
        raise UserError(f"{where}: the test {entry['test']} takes no tolerance; leave it out")
    if needed and (type(tolerance) not in (int, float) or not 0 < tolerance < float("inf")):
        raise UserError(
            f"{where}: tolerance = {tolerance!r}: the test {entry['test']} needs a number above 0"
        )


def _filled(text: str, reference: Reference, where: str) -> str:
    try:
        return text.format_map(reference)
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{where}: {text!r}: docs/reference.json has no such number ({error!r})"
        ) from error
