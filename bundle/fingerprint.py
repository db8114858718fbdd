"""Fingerprints by content: of values, of files, and of code by its definitions.

Code is known by the functions, classes and constants that it reaches, as syntax trees without
docstrings and comments, by name and not by file: to move, to format, to rename a file or to mend
prose changes nothing.
"""

import ast
import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bundle import paths

# Values of settings stand among a training's parameters, errors end it, and a look at the hold-out
# changes no weight: none of these decides bits.
DECIDES_NO_BITS = ("lib.settings", "lib.errors", "lib.predict")
LOOP = (("lib.train", "train"), ("lib.data", "load"))
# What of the bundle shows up on a notebook's page. The rest finds, stores or runs: it does not
# count, but leads to what of lib does the work.
SHOWS = (
    "bundle.notebook", "bundle.figures", "bundle.diagrams", "bundle.effects", "bundle.words",
    "bundle.own.", "bundle.report.", "bundle.claims.", "bundle.deploy.", "bundle.study.compare",
    "bundle.training.outcome", "bundle.training.predictions", "bundle.training.shift",
)  # fmt: skip
# The values of parameters stand among what a notebook depends on.
NO_PAGE = ("lib.settings", "lib.errors")
FACADE = ("bundle.notebook", "Notebook")  # a notebook reaches those of its methods that it uses
HANDED_ON = {("bundle", "load_released"): ("bundle.own.network", "load_released")}

Name = tuple[str, str]  # dotted module, name of a definition in it
Read = Callable[[str], str | None]


def of_value(value: Any) -> str:
    """Return the SHA-256 of a plain value (numbers, text, lists, dicts), keys in any order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def of_file(path: Path) -> str:
    """Return the SHA-256 of a file, or "" where there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_loop() -> dict[str, str]:
    """Return definition -> digest of all code that decides the bits of a training."""
    return reached(LOOP, lambda module: module.startswith("lib.") and module not in DECIDES_NO_BITS)


def of_cells(source: str) -> dict[str, str]:
    """Return definition -> digest of what a notebook's code reaches in lib, and what shows it."""
    tree = ast.parse(source)
    used = _used(tree, "", _parsed(source), _read)
    start = [*(HANDED_ON.get(name, name) for name in used), *_methods(FACADE, tree)]
    return reached(start, _counts, through=lambda module: module.startswith("bundle."))


def _counts(module: str) -> bool:
    """Whether a module's definitions change a page; parameters are told apart by their values."""
    return module.startswith(("lib.", *SHOWS)) and module not in NO_PAGE


def _methods(facade: Name, tree: ast.AST) -> list[Name]:
    """Return the methods of a class that code uses of its objects, and those that they use."""
    module, kind = facade
    methods = _parsed(_read(module) or "").definitions
    made = (node for node in ast.walk(tree) if isinstance(node, ast.Assign))
    books = [node.targets[0] for node in made if ast.unparse(node.value).startswith(f"{kind}(")]
    used, waiting = [], ["__init__", *_attributes(tree, *map(ast.unparse, books))]
    while waiting:
        name = f"{kind}.{waiting.pop()}"
        if name in methods and (module, name) not in used:
            used.append((module, name))
            waiting += _attributes(methods[name][0], "self")
    return used


def _attributes(tree: ast.AST, *names: str) -> list[str]:
    """Return the attributes that code reads of variables with these names."""
    parts = (part for part in ast.walk(tree) if isinstance(part, ast.Attribute))
    return sorted({part.attr for part in parts if ast.unparse(part.value) in names})


def reached(
    start: Iterable[Name], follow: Callable[[str], bool], read: Read | None = None,
    through: Callable[[str], bool] = lambda module: False,
) -> dict[str, str]:  # fmt: skip
    """Return definition -> digest for those of `start` and all that they name, also indirectly.

    `follow` says whether a module's definitions count, `through` whether others lead to such;
    `read` returns the source of a dotted module, None where there is none.
    """
    read = functools.cache(read or _read)
    waiting, seen, digests = list(start), set[Name](), dict[str, set[str]]()
    while waiting:
        module, name = waiting.pop()
        if (module, name) in seen or not (follow(module) or through(module)):
            continue
        seen.add((module, name))
        parsed = _parsed(read(module) or "")
        for node in parsed.definitions.get(name, ()):
            if follow(module):
                digests.setdefault(name, set()).add(_digest(node))
            waiting += _used(node, module, parsed, read)
        if name not in parsed.definitions and name in parsed.imports:
            waiting.append(parsed.imports[name])
    return {name: of_value(sorted(found))[:16] for name, found in sorted(digests.items())}


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return a phrase a key whose value differs, such as "epochs 3 -> 4"; no hash is printed."""
    phrases = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if before != after:
            hashes = any(re.fullmatch("[0-9a-f]{16,64}", str(value)) for value in (before, after))
            phrases.append(key if hashes else f"{key} {_shown(before)} -> {_shown(after)}")
    return phrases


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)


class _Module(NamedTuple):
    definitions: dict[str, list[ast.AST]]  # name -> statements at the top level that make it
    imports: dict[str, Name]  # local name -> where it comes from, at any level


def _read(module: str) -> str | None:
    path = paths.ROOT / f"{module.replace('.', '/')}.py"
    return path.read_text(encoding="utf-8") if path.is_file() else None


@functools.lru_cache(512)
def _parsed(source: str) -> _Module:
    tree, made = ast.parse(source), _Module({}, {})
    for statement in tree.body:
        for name in _made_by(statement):
            made.definitions.setdefault(name, []).append(statement)
        if isinstance(statement, ast.ClassDef):
            for method in statement.body:
                if isinstance(method, ast.FunctionDef):
                    made.definitions[f"{statement.name}.{method.name}"] = [method]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                made.imports[alias.asname or alias.name] = (node.module, alias.name)
    return made


def _made_by(node: ast.stmt) -> set[str]:
    """Return the names that a statement at the top level defines or changes."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        targets = [node.value.func]
    elif isinstance(node, ast.Import | ast.ImportFrom):
        targets = []
    roots = set()
    for target in filter(None, targets):
        while isinstance(target, ast.Attribute | ast.Subscript):
            target = target.value
        roots |= {part.id for part in ast.walk(target) if isinstance(part, ast.Name)}
    return roots


def _used(node: ast.AST, module: str, parsed: _Module, read: Read) -> Iterator[Name]:
    """Yield the definitions that a piece of a module's code names."""
    for root, name in _named(node):
        if name:
            source, imported = parsed.imports.get(root, ("", ""))
            if source and read(f"{source}.{imported}") is not None:
                yield f"{source}.{imported}", name
        elif root in parsed.definitions:
            yield module, root
        elif root in parsed.imports:
            yield parsed.imports[root]


@functools.lru_cache(8192)  # a notebook reaches most of what another one does
def _named(node: ast.AST) -> tuple[tuple[str, str], ...]:
    """Return (name, "") for each name in a piece of code, (name, attribute) for what is read of it.

    In the order in which they are first met.
    """
    met = dict[tuple[str, str], None]()
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
            met[part.value.id, part.attr] = None
        if isinstance(part, ast.Name):
            met[part.id, ""] = None
    return tuple(met)


@functools.lru_cache(8192)
def _digest(node: ast.AST) -> str:
    """Return the SHA-256 of a piece of code."""
    return hashlib.sha256(repr(_plain(node)).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Return a syntax tree as nested tuples, the same from every Python: no docstring, no place."""
    if isinstance(value, list):
        return tuple(map(_plain, value))
    if not isinstance(value, ast.AST):
        return repr(value)
    told = dict(ast.iter_fields(value))
    if isinstance(value, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        told["body"] = told["body"][ast.get_docstring(value, clean=False) is not None :]
    kept = ((key, part) for key, part in told.items() if part not in (None, []) and key != "ctx")
    return type(value).__name__, *((key, _plain(part)) for key, part in kept)
