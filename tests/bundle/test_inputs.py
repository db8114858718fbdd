"""Malformed input of every command: one short line, exit code 2, nothing begun."""

import os
import shutil
import socket
from pathlib import Path

import pytest

from bundle import checks, paths
from bundle.__main__ import main
from bundle.inputs import MOST_VALUES, read_yaml
from lib.errors import UserError, exit_on_user_error, nearest, one_line
from lib.model import PARAMETER_LIMIT

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 500  # characters of a line, whatever the input


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Folders of our own in place of params/, cluster/ and results/; the notebooks stay."""
    for name in ("params", "cluster"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "results").mkdir()
    for name in ("params", "results"):
        monkeypatch.setattr(paths, name.upper(), tmp_path / name)
    monkeypatch.setattr("bundle.study.cluster.PROFILES", tmp_path / "cluster")
    monkeypatch.setenv("BUNDLE_OFFLINE", "1")
    return tmp_path


@pytest.fixture
def refused(scratch, capsys, monkeypatch):
    """Return a function that does a command and returns the line with which it is refused."""

    def begun(*_arguments, **_options):
        raise AssertionError("something was begun")

    monkeypatch.setattr("bundle.runs.execute.run_all", begun)
    monkeypatch.setattr("bundle.readme.write", begun)
    monkeypatch.setattr("bundle.training.session.train", begun)

    def line_of(*arguments: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            exit_on_user_error(lambda: main(list(arguments)))
        out, err = capsys.readouterr()
        assert left.value.code == 2 and out == "", (arguments, out, err)
        (line,) = err.splitlines()
        assert line.startswith("error: ") and line.isprintable() and len(line) < LONGEST, line
        assert not list((scratch / "results").iterdir()), "something was begun"
        return line

    return line_of


def sampled(table: dict, of: int = 8) -> list:
    """Return a table's names for pytest: all but every `of`-th are marked as hostile."""
    marks = [() if number % of == 0 else pytest.mark.hostile for number in range(len(table))]
    return [pytest.param(name, marks=mark) for name, mark in zip(table, marks, strict=True)]


# Contents of a file

DEEP = 5000
BOMB = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
MERGED = "m0: &m0 {x: 1}\n" + "".join(
    f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 9)}], y{n}: 1}}\n" for n in range(1, 12)
)
# fmt: off
CONTENTS = {
    "nested lists": "seed: " + "[" * DEEP + "]" * DEEP,
    "nested maps": "seed: " + "{a: " * DEEP + "1" + "}" * DEEP,
    "nested by indents": "".join(" " * n + "a:\n" for n in range(DEEP // 10)),
    "cut off": "seed: " + "[" * DEEP,
    "alias bomb": BOMB,
    "alias bomb of merged maps": MERGED,
    "holds itself": "seed: &a [*a]",
    "map that holds itself": "seed: &a {b: *a}",
    "unknown tag": "seed: !thing 3",
    "tag of Python": "seed: !!python/object/apply:os.system ['touch x']",
    "tag of a Python name": "seed: !!python/name:os.system",
    "int that is none": "seed: !!int abc",
    "empty int": "seed: !!int ''",
    "int that is a list": "seed: !!int [1]",
    "float that is none": "seed: !!float abc",
    "empty float": "seed: !!float ''",
    "bool that is none": "seed: !!bool maybe",
    "time that is none": "seed: !!timestamp abc",
    "binary that is none": "seed: !!binary '%%%'",
    "set that is none": "seed: !!set abc",
    "set": "seed: !!set {a, b}",
    "ordered map": "seed: !!omap [a: 1, b: 2]",
    "pairs": "seed: !!pairs [a: 1, a: 2]",
    "map that is text": "seed: !!map abc",
    "list that is text": "seed: !!seq abc",
    "text that is a list": "seed: !!str [a]",
    "null that is a number": "seed: !!null 3",
    "number too long": "seed: " + "9" * 5000,
    "hexadecimal too long": "seed: 0x" + "f" * 5000,
    "key of a list": "? [a]\n: 1",
    "key of a map": "? {a: 1}\n: 1",
    "key null": "~: 3",
    "key a number": "1: 3",
    "key not a number": ".nan: 3",
    "long key": "k" * 3000 + ": 3",
    "long value": "seed: " + "v" * 3000,
    "key with a line break": '"a\\nb": 3',
    "key with an escape sequence": '"\\e[2J\\e[31m": 3',
    "key with NUL": '"a\\0b": 3',
    "key from right to left": '"\\u202Eseed": 3',
    "value with NUL": 'dataset: "a\\0b"',
    "value with an escape sequence": 'dataset: "\\e]0;x\\a"',
    "value with a lone surrogate": 'dataset: "\\uD800"',
    "key twice": "seed: 1\nseed: 1",
    "two documents": "seed: 1\n---\nseed: 2",
    "directive": "%YAML 9.9\n---\nseed: 1",
    "tab": "seed:\n\t- 1",
    "empty": "",
    "list": "- 1\n- 2",
    "text": "hello",
    "number": "3",
    "null": "~",
    "JSON list": '[{"a": 1}]',
    "UTF-16": "seed: 3".encode("utf-16"),
    "no UTF-8": b"seed: \xff\xfe",
    "NUL bytes": b"seed: 3\0\0\0",
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    "too large": b"# " + b"x" * 2**24,
}
# fmt: on


def folder(path: Path) -> None:
    path.mkdir()


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def dangling_link(path: Path) -> None:
    path.symlink_to("nowhere.yaml")


def link_to_a_folder(path: Path) -> None:
    path.symlink_to("/")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def plug(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


KINDS = (folder, link_to_itself, dangling_link, link_to_a_folder, pipe, plug, device)

# Place of the file -> the commands that read it.
PLACES = {
    "params/mine.yaml": [
        ("run", "mine"), ("status", "mine"), ("train", "mine"), ("verify", "mine"),
        ("release", "mine"), ("logits", "mine"), ("run", "over"),
    ],
    "params/studies/mine.yaml": [
        ("study", "jobs", "mine"), ("study", "job", "mine", "quick@1"),
        ("study", "collect", "mine"), ("cluster", "mine", "--check"),
    ],
    "params/studies/claims.yaml": [("claims",)],
    "cluster/mine/config.yaml": [("cluster", "small", "--profile", "mine", "--check")],
}  # fmt: skip


def put(scratch: Path, place: str, content: str | bytes) -> None:
    path = scratch / place
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    if callable(content):
        content(path)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (scratch / "params/over.yaml").write_text("base: mine\n")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("content", sampled(CONTENTS))
def test_a_malformed_file_is_one_line(scratch, refused, place, content):
    put(scratch, place, CONTENTS[content])
    for arguments in PLACES[place]:
        line = refused(*arguments)
        assert place in line or (content in ("nested by indents",) and "mine" in line), line


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_what_is_no_file_is_one_line(scratch, refused, tmp_path_factory, place, kind):
    if kind is plug:  # the path of a socket is short
        short = tmp_path_factory.mktemp("s") / "s"
        plug(short)
        put(scratch, place, lambda path: path.symlink_to(short))
    else:
        put(scratch, place, kind)
    for arguments in PLACES[place]:
        assert place.rpartition("/")[2] in refused(*arguments) or "config.yaml" in place


@pytest.mark.parametrize("kind", KINDS[:-2], ids=lambda kind: kind.__name__)
def test_what_lies_elsewhere_in_params_harms_no_run(scratch, capsys, kind):
    for place in ("params/other.yaml", "params/ablations/other.yaml", "params/studies/other.yaml"):
        put(scratch, place, kind)
    (scratch / "params/._smoke.yaml").write_bytes(b"\0\5\x16\7")  # a Mac's disk leaves such
    assert main(["status", "smoke"]) == 0 and main(["study", "jobs", "small"]) == 0
    assert "01_explore_data" in capsys.readouterr().out


# Names

# fmt: off
NAMES = {
    "long": "n" * 300, "longer": "n" * 100_000, "line break": "a\nb", "carriage return": "a\rb",
    "NUL": "a\0b", "escape sequence": "\x1b[2J\x1b[31mred", "title": "\x1b]0;x\x07", "tab": "a\tb",
    "right to left": "\u202eabc", "surrogate": "a\udcffb", "folder above": "../smoke",
    "from the root": "/etc/passwd", "folder": "ablations/steps_swa", "dot": ".", "dots": "..",
    "space": " ", "star": "*", "option": "--help", "braces": "{run}", "percent": "%s%n",
    "command": "$(touch x)", "semicolon": "smoke;touch x", "quotes": "'\"", "not ASCII": "smöke",
}
OPTIONS = {
    "RUN": [(name, "--", "NAME") for name in (
        "run", "status", "train", "verify", "release", "logits", "pages", "readme")],
    "UNTIL": [("run", "--until=NAME", "--", "smoke")],
    "SEED": [(name, "--seed=NAME", "--", "smoke") for name in ("run", "status", "train")],
    "SET": [(name, "--set=NAME", "--", "smoke") for name in ("run", "status", "train")],
    "SET of a number": [("run", "--set=seed=NAME", "--", "smoke")],
    "SET of a section": [("run", "--set=NAME.seed=3", "--", "smoke")],
    "SET of a key": [("run", "--set=NAME=3", "--", "smoke")],
    "SET of a choice": [("run", "--set=dataset=NAME", "--", "smoke")],
    "PLAN": [("study", "--", "jobs", "NAME"), ("study", "--", "collect", "NAME"),
             ("study", "--", "job", "NAME", "quick@1"), ("cluster", "--check", "--", "NAME")],
    "JOB": [("study", "--", "job", "small", "NAME")],
    "PROFILE": [("cluster", "--check", "--profile=NAME", "--", "small")],
    "WAIT": [("study", "--wait=NAME", "--", "job", "small", "quick@1")],
    "command": [("NAME",), ("NAME", "smoke")],
    "action": [("study", "--", "NAME", "small")],
    "option": [("run", "smoke", "--NAME"), ("run", "smoke", "NAME", "NAME")],
}
# fmt: on
FINE = {  # shlex reads them as no words at all, or argparse as its own
    ("SET", "space"),
    ("command", "option"),
    ("option", "option"),
    ("SET of a choice", "option"),
}  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("name", sampled(NAMES))
def test_a_malformed_name_is_one_line(refused, option, name):
    if (option, name) in FINE:
        pytest.skip("not malformed here")
    for arguments in OPTIONS[option]:
        refused(*(part.replace("NAME", NAMES[name]) for part in arguments))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("seed=3 seed=3", "'seed' is given twice"),
        ("03_train.epochs=2 seed=3 03_train.epochs=3", "'03_train.epochs' is given twice"),
        ("06_report.author='\"a\\nb\"'", "a character that cannot be shown"),
        ("06_report.author='\"\\e[31m\"'", "a character that cannot be shown"),
        ("03_train.teacher=../x", "must name a folder of results/"),
        ("widths=[2048,2048] blocks=[64,64]", "more than 5,000,000"),
        ("widths=[2048,2048] blocks=[64,64] comparison=true", "500,000,000"),
        ("04_predict_tta.shifted_set=/none.pkl", "04_predict_tta.shifted_set = /none.pkl: no such"),
        ("04_predict_tta.shifted_set=" + "x" * 300, "name too long"),
        ("04_predict_tta.shifted_set=/", "is no file"),
        ("04_predict_tta.shifted_set=/dev/zero", "is no file"),
        ("04_predict_tta.shifted_set=~nobody-here/x", "no such home"),
        ("04_predict_tta.shifted_set=README.md", "no pickle"),
    ],
)
def test_a_malformed_value_is_refused_before_anything_starts(refused, change, said):
    assert said in refused("run", "smoke", f"--set={change}")


def test_a_network_at_the_limit_is_not_refused_early():
    assert checks.LIMIT == PARAMETER_LIMIT
    from lib.settings import BuildModel

    right = {"blocks": (4, 4, 4, 3), "widths": (32, 64, 128, 256), "strides": (1, 2, 2, 2)}
    assert checks.build(BuildModel, right, "here").blocks == (4, 4, 4, 3)
    # 9 * (2 * 4 - 1) * w^2 of the last stage alone: 63 * 282^2 = 5,009,  ... above, 281 below
    for width, fits in ((281, True), (282, False)):
        values = {"blocks": (4,), "widths": (width,), "strides": (1,)}
        assert (63 * width**2 <= PARAMETER_LIMIT) == fits
        if fits:
            checks.build(BuildModel, values, "here")
        else:
            with pytest.raises(UserError, match="at least 5,010,012 parameters"):
                checks.build(BuildModel, values, "here")


def test_anchors_and_merged_keys_of_a_usual_size_are_read():
    text = "a: &a {x: 1, y: [1, 2]}\nb: {<<: *a, z: 3}\nc: [*a, *a]\n"
    value = read_yaml(text)
    assert value["b"] == {"x": 1, "y": [1, 2], "z": 3} and value["c"] == [value["a"]] * 2
    assert len(read_yaml(f"[{'1, ' * (MOST_VALUES - 10)}1]")) == MOST_VALUES - 9


def test_a_text_becomes_one_line():
    assert one_line("a\nb\x1b[0m\u202e\udcff") == "a\\nb\\x1b[0m\\u202e\\udcff"
    assert one_line("ä – 漢") == "ä – 漢"
    cut = one_line("front" + "x" * 9000 + "remedy")
    assert cut.startswith("front") and cut.endswith("remedy") and len(cut) < LONGEST
    assert len(one_line("\x00" * 9000)) < LONGEST and str(UserError("a\nb")) == "a\\nb"
    assert nearest("x" * 100_000, ["seed"]) == ""


# What cannot be read or written


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), OSError(28, "No space")]
)
@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "smoke"), ("train", "smoke"), ("verify", "smoke"), ("release", "smoke"),
        ("logits", "smoke"), ("claims",), ("pages",), ("pages", "smoke"), ("readme", "smoke"),
        ("status", "smoke"), ("study", "jobs", "small"), ("study", "collect", "small"),
        ("study", "job", "small", "quick@1"), ("cluster", "small", "--check"), ("data",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_the_system_refuses_is_one_line(scratch, monkeypatch, capsys, arguments, error):
    """Wherever it is raised: here where the command looks first."""
    refusal = type(error)(*error.args, "results/smoke/.lock")

    def raises(*_arguments, **_options):
        raise refusal

    raises.__name__ = arguments[0]  # which is the command's
    monkeypatch.setattr(f"bundle.__main__.{arguments[0]}", raises)
    assert main(list(arguments)) == 1
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    remedy = "make room" if error.errno == 28 else "make it readable and writable"
    assert out == ""
    assert line.startswith(f"error: {error.strerror} (results/smoke/.lock): {remedy}, then try")
