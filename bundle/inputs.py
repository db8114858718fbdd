"""Files that people write, as YAML; what is wrong with one is a line that names it."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from lib.errors import UserError, nearest


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses keys given twice (YAML keeps the last) and numbers that mislead."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict:
    keys = [key.value for key, _ in node.value]
    for key in keys:
        if keys.count(key) > 1:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key!r} is given twice", node.start_mark
            )
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    if re.fullmatch(r"[-+]?0[0-7_]+|.*:.*", node.value):
        kind = "a number to base 60" if ":" in node.value else "an octal number"
        problem = f"{node.value} would be read as {kind}; write a plain decimal number"
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
    return yaml.SafeLoader.construct_yaml_int(loader, node)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)


def read_yaml(text: str) -> Any:
    """Return what a YAML text holds; raises YAMLError or ValueError, also for a key given twice."""
    return yaml.load(text, Loader=_Loader)


def read_file(path: Path, where: str) -> Any:
    """Return what a YAML file holds; UserError, which names it as `where`, for what is wrong."""
    try:
        return read_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{where}: cannot be read ({error.strerror}); restore it with git"
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        raise UserError(
            f"{where}:{line} not valid YAML ({problem(error)}); mend that line"
        ) from error


def problem(error: Exception) -> str:
    """Return what a YAML error says, on one line."""
    said = getattr(error, "problem", None) or getattr(error, "reason", None) or error
    return " ".join(str(said).split())


def check_keys(tree: Collection, known: Collection[str], where: str) -> None:
    """Refuse the first key that is not `known`, with the nearest one that is."""
    for key in tree:
        if key not in known:
            near, names = nearest(str(key), list(known)), ", ".join(known)
            raise UserError(f"{where}: unknown key {key!r}{near}; keys: {names}")


def check_name(option: str, name: str, known: Collection[str], where: str) -> None:
    """Refuse a `name`, given as OPTION=name, that is none of the `known` files'."""
    if name not in known:
        listed = f"{option.lower()}s: {', '.join(known)}{nearest(name, list(known))}"
        raise UserError(f"{option}={name}: no file {where}; {listed}")
