"""Reading `params/RUN.yaml`: bases merged, overrides applied, all checked before anything runs."""

import hashlib
import itertools
import re
import shlex
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import yaml

from bundle import paths
from bundle.checks import build, check, own_fields
from bundle.dataset import cifar10
from bundle.inputs import problem, read_file, read_yaml
from bundle.runs.cells import notebooks, parameter_cell
from lib.errors import UserError, nearest, one_line
from lib.settings import COMMON, SECTIONS

OFFLINE_RUNS = ("quick", "smoke")  # the only runs that may fall back to the embedded dataset
FILE_KEYS = ("base", "on_digits")
ON_DIGITS = "on_digits"  # what differs where the run falls back to the embedded digits
# Values of this section change a page and no result, so they lead to no directory of their own.
PAGE_ONLY = "06_report."
ABLATIONS = "ablations"  # folder below params/ of runs that only serve a study


@dataclass(frozen=True)
class RunParameters:
    """A run, ready to execute: its results directory and the checked values of every notebook."""

    file: str  # stem of the parameter file
    name: str  # directory under results/
    # Notebook -> its parameters, plain types.
    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    data: str = ""  # checksum of the dataset, once it is known
    # The same where the dataset is the digits; {} for the same values.
    on_digits: dict[str, dict[str, Any]] = field(default_factory=dict)

    def settings(self, notebook: str) -> Any:
        """Return the notebook's frozen dataclass of lib.settings."""
        return build(SECTIONS[notebook], self.values[notebook], notebook)

    def injected(self, notebook: str) -> dict[str, Any]:
        """Return what Papermill hands to the notebook: `run`, and what differs from its defaults.

        A default is the parameters cell's where that declares the name, else lib.settings'.
        """
        section = SECTIONS.get(notebook)
        defaults = (_plain(section()) if section else {}) | parameter_cell(notebook)
        values = self.values[notebook]
        return {key: values[key] for key in values if key == "run" or values[key] != defaults[key]}


def load(run: str, overrides: str = "", seed: str | int | None = None) -> RunParameters:
    """Read, check ``params/RUN.yaml`` with `overrides` (``"03_train.epochs=2 seed=7"``) and a seed.

    Raises UserError, one line, for anything that is wrong with the file or the overrides.
    """
    tree = _merged(run)
    where, changes = _file(run), _changes(overrides, seed, tree)
    differs = tree.pop(ON_DIGITS, {})
    small = _deep(tree, differs)
    for (key, value), target in itertools.product(changes.items(), (tree, small)):
        section, _, name = key.rpartition(".")
        (target.setdefault(section, {}) if section else target)[name] = value
    named = {key: value for key, value in changes.items() if not key.startswith(PAGE_ONLY)}
    name = directory_name(run, named)
    if name != run and name in runs():
        raise UserError(f"SET: its results would go to results/{name}, that of {_file(name)}")
    values = _all_values(tree, name, where)
    digits = _all_values(small, name, where) if differs else {}
    if (dataset := tree.get("dataset", "cifar10")) != "cifar10" and run not in OFFLINE_RUNS:
        remedy = f"only {' and '.join(OFFLINE_RUNS)} may run on other data; write dataset: cifar10"
        raise UserError(f"{where}: dataset = {dataset!r}: {remedy}")
    return RunParameters(run, name, values, on_digits=digits)


def _changes(overrides: str, seed: str | int | None, tree: dict[str, Any]) -> dict[str, Any]:
    """Return the checked values of SET and SEED, by key; the file's own seed is no change."""
    changes = parse_overrides(overrides)
    if seed not in (None, ""):
        if "seed" in changes:
            raise UserError(f"SEED={seed}: SET gives a seed, too; leave one out")
        changes["seed"] = check(_scalar(str(seed), f"SEED={seed}"), COMMON["seed"], "SEED: seed")
    if changes.get("seed") == tree.get("seed", COMMON["seed"].default):
        changes.pop("seed")
    return changes


def _all_values(tree: dict[str, Any], name: str, where: str) -> dict[str, dict[str, Any]]:
    return {notebook: _notebook_values(notebook, tree, name, where) for notebook in notebooks()}


def directory_name(run: str, changes: dict[str, Any]) -> str:
    """Return `run`'s results directory with `changes`: readable, path-safe, another for others."""
    parts, lossy = [run], False
    for key, value in sorted(changes.items()):
        text = ".".join(map(str, value)) if isinstance(value, list) else str(value)
        section, _, short = key.rpartition(".")
        shared = sum(short in own_fields(kind) for kind in SECTIONS.values()) > 1
        part = f"{section}.{short}{text}" if shared else f"{short}{text}"
        parts.append(re.sub(r"[^A-Za-z0-9._]+", "_", part))
        lossy |= parts[-1] != part
    name = "-".join(parts)
    digest = hashlib.sha256(repr(sorted(changes.items())).encode()).hexdigest()[:8]
    return f"{name[:80]}-{digest}" if lossy or len(name) > 90 else name


def base_of(run: str) -> str | None:
    """Return the run that params/RUN.yaml names as its base, None where it stands on its own."""
    base = _read(run, ()).get("base")
    return None if base is None else str(base)


def purpose(run: str) -> str:
    """Return the first sentence of params/RUN.yaml's comment, after the run's name, or ""."""
    _read(run, ())
    lines = (paths.ROOT / _file(run)).read_text(encoding="utf-8").splitlines()
    comment = itertools.takewhile(lambda line: line.startswith("#"), lines)
    text = " ".join(line.lstrip("# ").rstrip() for line in comment)
    header = re.match(rf"{re.escape(run)}:\s*(.*?)(\.\s|\.?$)", text)
    return header[1] if header else ""


def change(run: str, base: str = "") -> str:
    """Return in words what a run changes of its base; its name in words where no file says it.

    `purpose` without the base's name: "SGD in place of Muon, at the rate of airbench94".
    """
    try:
        told = purpose(run)
    except UserError:  # a record may outlive the file
        told = ""
    told = re.sub(rf"^{re.escape(base)}\b(?!')[,\s]*", "", told) if base else told
    told = re.sub(r"(?<=\d)x(?=\d)", "×", told)
    return told.removeprefix("with ") or run.replace("_", " ")


def _merged(run: str, chain: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the file's tree with its bases merged under it, deepest first."""
    if run in chain:
        raise UserError(f"{_file(chain[0])}: base refers in a circle: {' -> '.join((*chain, run))}")
    tree = _read(run, chain)
    base = tree.pop("base", None)
    return _deep(_merged(str(base), (*chain, run)), tree) if base is not None else tree


def _deep(under: dict, over: dict) -> dict:
    both = {
        key: _deep(under[key], over[key])
        for key in under.keys() & over.keys()
        if isinstance(under[key], dict) and isinstance(over[key], dict)
    }
    return {**under, **over, **both}


def runs() -> list[str]:
    """Return the names of all parameter files, those of params/ablations too."""
    folders = (paths.PARAMS, paths.PARAMS / ABLATIONS)
    names = (path.stem for folder in folders for path in folder.glob("*.yaml"))
    return sorted(name for name in names if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name))


def _file(run: str) -> str:
    """Return where the run's parameter file lies, or would lie, relative to the bundle."""
    own, ablation = f"{run}.yaml", f"{ABLATIONS}/{run}.yaml"
    return f"params/{ablation if (paths.PARAMS / ablation).is_file() else own}"


def _read(run: str, chain: tuple[str, ...]) -> dict[str, Any]:
    if run not in runs():
        raise UserError(_no_such_run(run, chain))
    where = _file(run)
    tree = read_file(paths.PARAMS / where.removeprefix("params/"), where)
    if not isinstance(tree, dict):
        form = "see params/quick.yaml for the form"
        raise UserError(f"{where}: must hold 'key: value' lines; {form}")
    _check_keys(tree, where)
    return tree


def _no_such_run(run: str, chain: tuple[str, ...]) -> str:
    known, hint = runs(), nearest(run, runs())
    run = one_line(run, 60)
    given = f"{_file(chain[-1])}: base = {run!r}" if chain else f"RUN={run}"
    parent = next((name for name in known if run.startswith(f"{name}-")), "")
    if parent:
        hint = f"; results made with SET or SEED are named so: give RUN={parent} and them"
    own = [name for name in known if (paths.PARAMS / f"{name}.yaml").is_file()]
    more = f", and {len(known) - len(own)} in params/{ABLATIONS}" if len(known) > len(own) else ""
    return f"{given}: no file params/{run}.yaml{hint}; runs: {', '.join(own)}{more}"


def _check_keys(tree: dict[str, Any], where: str) -> None:
    """Refuse unknown keys and wrong values of one file: the line then names this very file."""
    sections = notebooks()
    for key, value in tree.items():
        if key == ON_DIGITS:
            _check_on_digits(value, f"{where}: {key}")
        elif key in sections:
            _check_section(key, value, f"{where}: {key}")
        elif key in COMMON:
            check(value, COMMON[key], f"{where}: {key}")
        elif key not in FILE_KEYS:
            hint = nearest(str(key), [*COMMON, *sections, *FILE_KEYS])
            raise UserError(f"{where}: unknown key {key!r}{hint}; common keys: {', '.join(COMMON)}")


def _check_on_digits(tree: Any, where: str) -> None:
    """Check what differs on the digits: parameters of notebooks, by section."""
    if not isinstance(tree, dict):
        raise UserError(f"{where}: holds sections of notebooks, each with 'key: value' lines")
    for key, value in tree.items():
        if key not in notebooks():
            raise UserError(f"{where}: {key!r} is no notebook{nearest(str(key), notebooks())}")
        _check_section(key, value, f"{where}.{key}")


def _check_section(notebook: str, section: Any, where: str) -> None:
    if not isinstance(section, dict):
        remedy = f"write {notebook}: {{}} for none"
        raise UserError(f"{where}: a section holds 'key: value' lines; {remedy}")
    known = own_fields(SECTIONS[notebook]) if notebook in SECTIONS else {}
    allowed = sorted(known or set(parameter_cell(notebook)) - set(COMMON) - {"run"})
    for key, value in section.items():
        if key not in allowed:
            at_top = "; give it at the top level, it is common"
            hint = at_top if key in COMMON else nearest(str(key), allowed)
            raise UserError(f"{where}.{key} = {value!r}: unknown key{hint}")
        if known:
            check(value, known[key], f"{where}.{key}")


def _notebook_values(notebook: str, tree: dict[str, Any], name: str, where: str) -> dict[str, Any]:
    """Return one notebook's checked parameters: all of lib.settings, or all that its cell has."""
    defaults = parameter_cell(notebook)  # read for every notebook: a bad cell is told before a run
    if notebook not in tree:
        remedy = f"add a line '{notebook}: {{}}' to take its defaults, or move that file away"
        file = f"notebooks/{notebook}.ipynb"
        raise UserError(f"{where}: missing section '{notebook}', for {file}; {remedy}")
    common = {key: tree[key] for key in COMMON if key in tree}
    given = {**common, **tree[notebook], "run": name}
    if notebook in SECTIONS:
        return _plain(build(SECTIONS[notebook], given, f"{where}: {notebook}"))
    return _like_defaults(defaults, given, f"{where}: {notebook}")


def _plain(settings: Any) -> dict[str, Any]:
    """Return settings as the plain types that JSON and Papermill take."""
    values = asdict(settings).items()
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values}


def _like_defaults(defaults: dict, given: dict, where: str) -> dict[str, Any]:
    """Check the values of a notebook without a dataclass by the types of its cell's literals."""
    given = {key: value for key, value in given.items() if key in defaults}
    for key, value in given.items():
        kind = type(defaults[key])
        if type(value) is not kind and not (kind is float and type(value) is int):
            remedy = f"must be {kind.__name__}, as in its parameters cell"
            raise UserError(f"{where}.{key} = {value!r}: {remedy}")
    return {**defaults, **given}


def parse_overrides(text: str) -> dict[str, Any]:
    """Return the checked values of a SET= text, by key; UserError, one line, for what is wrong."""
    example = 'write SET="03_train.epochs=2 seed=7"'
    try:
        pairs = [part.partition("=") for part in shlex.split(text)]
    except ValueError as error:
        raise UserError(f"SET={text}: {error}; {example}") from error
    for key, equals, value in pairs:
        if not equals or not value or "" in key.split("."):
            raise UserError(f"SET={text}: '{key}{equals}{value}' is not key=value; {example}")
    keys = [key for key, _, _ in pairs]
    if twice := next((key for key in keys if keys.count(key) > 1), ""):
        raise UserError(f"SET={text}: '{twice}' is given twice; leave one out")
    changes = {key: _value(key, value) for key, _, value in pairs}
    for key, value in changes.items():
        _check_override(key, value)
    return changes


def _check_override(key: str, value: Any) -> None:
    section, _, name = key.rpartition(".")
    if section in notebooks():
        _check_section(section, {name: value}, f"SET: {section}")
    elif section:
        raise UserError(f"SET={key}: no section '{section}'{nearest(section, notebooks())}")
    elif name in COMMON:
        check(value, COMMON[name], f"SET: {name}")
    else:
        owners = [section for section, kind in SECTIONS.items() if name in own_fields(kind)]
        hint = f"; write {owners[0]}.{name}" if owners else nearest(name, list(COMMON))
        raise UserError(f"SET={key}: unknown common key '{name}'{hint}")


def _value(key: str, text: str) -> Any:
    """Return the value of key=text: of a parameter that is text, the text, if it is not quoted."""
    section, _, name = key.rpartition(".")
    item = (own_fields(SECTIONS[section]) if section in SECTIONS else COMMON).get(name)
    as_it_is = item is not None and item.type is str and text[0] not in "\"'"
    return text if as_it_is else _scalar(text, f"SET={key}")


def _scalar(text: str, where: str) -> Any:
    try:
        return read_yaml(text)
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{where}: {text!r} is not a value ({problem(error)})") from error


def files_in(values: dict[str, Any]) -> dict[str, str]:
    """Return the parameters that name a file: texts whose key ends in _set or _file."""
    texts = {key: value for key, value in values.items() if isinstance(value, str) and value}
    return {key: texts[key] for key in texts if key.endswith(("_set", "_file"))}


def with_dataset(parameters: RunParameters, network: bool = True) -> RunParameters:
    """Return parameters with `dataset: auto` resolved, so that all notebooks see the same data."""
    dataset = parameters.values["03_train"]["dataset"]
    say = print if network else lambda _line: None
    name, root = cifar10.resolve(dataset, network=network, verify=False, say=say)
    chosen = (name == "digits" and parameters.on_digits) or parameters.values
    values = {
        notebook: {**given, "dataset": name} if "dataset" in given else given
        for notebook, given in chosen.items()
    }
    return replace(parameters, values=values, data=cifar10.checksum(root) if root else name)
