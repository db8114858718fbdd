"""Files that people write, as YAML; what is wrong with one is a line that names it."""

import re
import stat
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from lib.errors import UserError, nearest

MOST_VALUES = 10_000  # of one YAML file, what its anchors repeat counted each time
MOST_BYTES = 2**24  # of a file that people write: a notebook with its pictures has less
MOST_NESTED = 100  # lists and maps in brackets, of a YAML file
MOST_DIGITS = 1000  # of a whole number: more could not be shown


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses keys given twice (YAML keeps the last) and numbers that mislead."""

    def fetch_flow_collection_start(self, token: type[yaml.Token]) -> None:
        if self.flow_level > MOST_NESTED:  # the time to read them grows with their square
            raise ValueError("nested too deeply")
        super().fetch_flow_collection_start(token)

    def get_single_node(self) -> yaml.Node | None:
        """Return the document, refused where its anchors make it large or endless."""
        node = super().get_single_node()
        if node is not None:
            _weigh(node, {})
        return node


def _weigh(node: yaml.Node, known: dict[int, int]) -> int:
    """Return how many values a node stands for; raises ConstructorError for too many."""
    if id(node) not in known:
        known[id(node)] = MOST_VALUES  # what holds itself would have no end
        parts = node.value if isinstance(node, yaml.CollectionNode) else []
        inner = [part for pair in parts for part in (pair if isinstance(pair, tuple) else [pair])]
        known[id(node)] = 1 + sum(_weigh(part, known) for part in inner)
    if known[id(node)] > MOST_VALUES:
        what = f"more than {MOST_VALUES:,} values, or one that holds itself"
        raise yaml.constructor.ConstructorError(None, None, what, node.start_mark)
    return known[id(node)]


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict:
    keys = [key.value for key, _ in node.value]
    for key in keys:
        if keys.count(key) > 1:
            what = f"key {key!r} is given twice"
            raise yaml.constructor.ConstructorError(None, None, what, node.start_mark)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    if len(node.value) > MOST_DIGITS:
        problem = f"a number of {len(node.value)} characters"
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
    if re.fullmatch(r"[-+]?0[0-7_]+|.*:.*", node.value):
        kind = "a number to base 60" if ":" in node.value else "an octal number"
        problem = f"{node.value} would be read as {kind}; write a plain decimal number"
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
    return yaml.SafeLoader.construct_yaml_int(loader, node)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)


def read_yaml(text: str) -> Any:
    """Return what a YAML text holds; raises YAMLError or ValueError, also for a key given twice."""
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError):
        raise
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except Exception as error:  # a tag promises what its value is not, and PyYAML believes it
        raise ValueError("a tag that does not fit its value") from error


def read_text(path: Path, where: str) -> str:
    """Return a text file's content; UserError, which names it as `where`, where there is none.

    Only a plain file is read: to open a pipe would wait for ever.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or a device"
            raise UserError(f"{where}: is {kind}, not a file; restore it with git")
        if found.st_size > MOST_BYTES:
            raise UserError(f"{where}: {found.st_size:,} bytes are too many; restore it with git")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        raise UserError(f"{where}: {what}; restore it with git") from error


def read_file(path: Path, where: str) -> Any:
    """Return what a YAML file holds; UserError, which names it as `where`, for what is wrong."""
    try:
        return read_yaml(read_text(path, where))
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        what = f"{line} not valid YAML ({problem(error)})"
        raise UserError(f"{where}:{what}; mend that line") from error


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
