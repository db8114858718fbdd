"""Parameter files: merging, results directories, mistakes as ONE line: file, key, value, remedy."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from bundle import checks
from bundle.__main__ import main
from bundle.files import run_again
from bundle.runs import params
from lib import settings
from lib.errors import UserError, exit_on_user_error

ROOT = Path(__file__).resolve().parents[2]
# fmt: off
SECTIONS = (
    "01_explore_data", "02_build_model", "03_train", "04_predict_tta", "05_confusion", "06_report",
    "07_robustness", "08_deploy",
)
# fmt: on


def run_file(common="dataset: cifar10", **sections):
    """The text of a parameter file: common lines, then sections' lines (train="epochs: 3")."""
    lines = [common]
    for name in SECTIONS:
        body = next((text for key, text in sections.items() if key in name), "")
        lines += (
            [f"{name}:", *(f"  {line}" for line in body.splitlines())]
            if body
            else [f"{name}: {{}}"]
        )
    return "\n".join(lines) + "\n"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write parameter files into a folder of their own, which lib then takes for params/."""
    folder = tmp_path / "params"
    folder.mkdir()
    monkeypatch.setattr("bundle.paths.PARAMS", folder)
    monkeypatch.setattr("bundle.paths.RESULTS", tmp_path / "results")

    def to_file(text, name="mine"):
        (folder / f"{name}.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())

    to_file(run_file())
    return to_file


def complaint(run="mine", overrides="", seed=None):
    """The one line of the UserError."""
    with pytest.raises(UserError) as caught:
        params.load(run, overrides, seed)
    message = str(caught.value)
    assert len(message.splitlines()) == 1 and message == message.strip() and len(message) < 500
    return message


def assert_all_in(parts, message):
    assert [part for part in parts if part not in message] == [], message


# Mistakes in the file


TRAIN = "params/mine.yaml: 03_train"
# fmt: off
MISTAKES = {
    # unknown keys, with the nearest known one
    "unknown common key": (run_file("sede: 3"),
        ["params/mine.yaml", "'sede'", "did you mean 'seed'"]),
    "unknown common key, nothing near": (run_file("zzzzzz: 3"),
        ["params/mine.yaml", "'zzzzzz'", "common keys: seed,"]),
    "unknown section": (run_file() + "3_train: {}\n",
        ["params/mine.yaml", "'3_train'", "did you mean '03_train'"]),
    "unknown section key": (run_file(train="epoch: 3"),
        [TRAIN, "epoch = 3", "did you mean 'epochs'"]),
    "unknown key of an empty section": (run_file(confusion="pair: 3"),
        ["05_confusion", "pair = 3", "'pairs'"]),
    "common key in a section": (run_file(train="seed: 3"), [TRAIN, "seed = 3", "at the top level"]),
    "common list in a section": (run_file(train="blocks: [1]"),
        [TRAIN, "blocks = [1]", "at the top level"]),
    "section's key at the top": (run_file("epochs: 3"),
        ["params/mine.yaml", "'epochs'", "common keys"]),
    "another section's key": (run_file(report="epochs: 3"),
        ["06_report", "epochs = 3", "unknown key"]),
    "run, which the runner sets": (run_file("run: other"), ["params/mine.yaml", "'run'"]),
    # wrong types
    "text for int": (run_file(train="epochs: abc"),
        [TRAIN, "epochs = 'abc'", "a whole number", "not text"]),
    "number in quotes for int": (run_file(train="epochs: '3'"),
        [TRAIN, "epochs = '3'", "a whole number", "not text"]),
    "fraction for int": (run_file(train="epochs: 2.5"),
        [TRAIN, "epochs = 2.5", "a whole number", "not a fraction"]),
    "whole float for int": (run_file(train="epochs: 3.0"),
        [TRAIN, "epochs = 3.0", "a whole number", "not a fraction"]),
    "true for int": (run_file(train="epochs: true"),
        [TRAIN, "epochs = True", "a whole number", "not true or false"]),
    "null for int": (run_file(train="epochs:"), [TRAIN, "epochs = None", "a whole number"]),
    "true for float": (run_file(train="momentum: true"),
        [TRAIN, "momentum = True", "a number", "not true or false"]),
    "text for float": (run_file(train="momentum: high"),
        [TRAIN, "momentum = 'high'", "a number", "not text"]),
    "not a number": (run_file(train="momentum: .nan"), [TRAIN, "momentum = nan", "a number"]),
    "infinity": (run_file(train="learning_rate: .inf"), [TRAIN, "learning_rate = inf", "a number"]),
    "a number too large for a float": (run_file(train=f"momentum: 1{'0' * 400}"),
        [TRAIN, "momentum = "]),
    "no for text": (run_file("device: no"),
        ["params/mine.yaml", "device = False", "text (quote it)", "not true or false"]),
    "number for text": (run_file(report="author: 7"),
        ["06_report", "author = 7", "text (quote it)", "not a whole number"]),
    "text for bool": (run_file(train="nesterov: maybe"),
        [TRAIN, "nesterov = 'maybe'", "true or false", "not text"]),
    "number for bool": (run_file("comparison: 1"),
        ["comparison = 1", "true or false", "not a whole number"]),
    "list for scalar": (run_file(train="epochs: [3]"),
        [TRAIN, "epochs = [3]", "a whole number", "not a list"]),
    "mapping for scalar": (run_file(train="epochs: {a: 1}"),
        [TRAIN, "epochs = {'a': 1}", "a whole number"]),
    "scalar for list": (run_file("blocks: 4"),
        ["params/mine.yaml", "blocks = 4", "a list, such as [4, 4, 4, 3]"]),
    "text for list": (run_file(predict="views: original"),
        ["04_predict_tta", "views = 'original'", "a list"]),
    "wrong type in a list": (run_file("blocks: [4, x, 4, 3]"), ["blocks", "'x'", "a whole number"]),
    "date for int": (run_file("seed: 2025-04-15"), ["params/mine.yaml", "seed", "a whole number"]),
    "impossible date": (run_file("seed: 2025-99-99"), ["params/mine.yaml"]),
    # out of range, bad choices, values that do not go together
    "below the range": (run_file(train="epochs: 0"), [TRAIN, "epochs = 0", "between 1 and 5000"]),
    "above the range": (run_file(train="cutmix: 1.5"), [TRAIN, "cutmix = 1.5", "between 0 and 1"]),
    "negative": (run_file("seed: -1"),
        ["params/mine.yaml", "seed = -1", "between 0 and 2147483647"]),
    "out of range in a list": (run_file("strides: [1, 2, 2, 3]"),
        ["strides", "3", "between 1 and 2"]),
    "bad choice": (run_file(train="schedule: cosin"),
        [TRAIN, "schedule = 'cosin'", "constant, cosine, step"]),
    "bad choice in a list": (run_file(predict="views: [original, upside_down]"),
                             ["params/mine.yaml: 04_predict_tta.views", "'upside_down'",
                                 "vertical_flip"]),
    "bad common choice": (run_file("dataset: cifar100"),
        ["dataset = 'cifar100'", "auto, cifar10, digits"]),
    "blocks and widths differ in number": (
        run_file("blocks: [1, 1]\nwidths: [8, 8, 8]\nstrides: [1, 2]"),
                                           ["params/mine.yaml", "blocks", "widths",
                                               "as many of each"]),
    "no stage at all": (run_file("blocks: []\nwidths: []\nstrides: []"),
        ["params/mine.yaml", "blocks", "one stage"]),
    "even kernel": (run_file(train="blur_kernel: 4"), [TRAIN, "blur_kernel = 4", "odd"]),
    "range upside down": (run_file(train="blur_sigma: [1.5, 0.1]"),
        [TRAIN, "blur_sigma = [1.5, 0.1]", "[lowest"]),
    "range of one value": (run_file(train="erasing_scale: [0.1]"),
        [TRAIN, "erasing_scale = [0.1]", "[lowest, high"]),
    "mixed twice": (run_file(train="cutmix: 0.7\nmixup: 0.4"),
        [TRAIN, "cutmix = 0.7", "mixup = 0.4", "at most 1"]),
    "mixed twice in phase 2": (run_file(train="cutmix: 0.0\nmixup: 0.6\nphase2_cutmix: 0.5"),
        ["phase2_cutmix"]),
    "alternating with a probability": (
        run_file(train="flip_mode: alternating\nhorizontal_flip: 0.3"),
                                       [TRAIN, "horizontal_flip = 0.3", "0.5"]),
    "no original view": (run_file(predict="views: [vertical_flip]"),
        ["04_predict_tta", "views", "'original'"]),
    "auto in another run": (run_file("dataset: auto"),
        ["params/mine.yaml", "dataset = 'auto'", "dataset: cifar10"]),
    "digits in another run": (run_file("dataset: digits"),
        ["params/mine.yaml", "'digits'", "dataset: cifar10"]),
    # the form of the file
    "missing section": ("dataset: cifar10\n01_explore_data: {}\n",
        ["params/mine.yaml", "02_build_model", "add a"]),
    "section without content": (run_file().replace("05_confusion: {}", "05_confusion:"),
                                ["params/mine.yaml", "05_confusion", "write 05_confusion: {}"]),
    "section that is a list": (run_file().replace("05_confusion: {}", "05_confusion: [1]"),
        ["05_confusion: {}"]),
    "not a mapping": ("- seed\n- dataset\n", ["params/mine.yaml", "'key: value'"]),
    "empty": ("", ["params/mine.yaml", "'key: value'"]),
    "a sentence": ("hello", ["params/mine.yaml", "'key: value'"]),
    "broken YAML": ("seed: 3\nblocks: [1, 2\nwidths: 3\n",
        ["params/mine.yaml", "line 3", "not valid YAML", "mend"]),
    "tab": ("03_train:\n\tepochs: 3\n", ["params/mine.yaml", "line 2", "not valid YAML"]),
    "bad indent": ("seed: 3\n  dataset: auto\n", ["params/mine.yaml", "line 2", "not valid YAML"]),
    "key given twice": ("seed: 3\ndataset: cifar10\nseed: 4\n",
        ["params/mine.yaml", "'seed' is given twice"]),
    "key given twice in a section": (run_file(train="epochs: 3\nepochs: 3"),
        ["params/mine.yaml", "'epochs' is given"]),
    "octal-looking number": (
        run_file(train="epochs: 010"),
            ["params/mine.yaml", "line", "010", "octal", "plain decimal"]),
    "unknown tag": (run_file("seed: !!python/object/apply:os.getcwd []"),
        ["params/mine.yaml", "line 1", "YAML"]),
    "unknown anchor": (run_file("seed: *other"), ["params/mine.yaml", "line 1", "not valid YAML"]),
    "not UTF-8": (b"seed: \xff\xfe\n", ["params/mine.yaml", "not valid YAML"]),
    "control character": (b"seed: \x07\n", ["params/mine.yaml", "not valid YAML"]),
    "line break in a key": ('"se\\ned": 3\n', ["params/mine.yaml", "unknown key"]),
    # bases
    "base missing": ("base: nowhere\n",
        ["params/mine.yaml", "base = 'nowhere'", "params/nowhere.yaml", "runs: mine"]),
    "base nearly named": ("base: mime\n",
        ["params/mine.yaml", "base = 'mime'", "did you mean 'mine'"]),
    "base is itself": ("base: mine\n", ["params/mine.yaml", "circle", "mine -> mine"]),
    "base is a list": ("base: [mine]\n", ["params/mine.yaml", "base = "]),
    "base leaves the folder": ("base: ../mine\n", ["params/mine.yaml", "base = '../mine'"]),
}
# fmt: on


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_in_the_file_is_one_line(write, mistake):
    text, parts = MISTAKES[mistake]
    write(text)
    assert_all_in(parts, complaint())


def test_the_line_number_of_broken_yaml(write):
    write("# a comment\nseed: 3\n\n03_train: {epochs: 3\n05_confusion: {}\n")
    assert "line 5" in complaint()
    write("seed: 3\n\n\nwidths: [8, 010]\n")
    assert "line 4" in complaint()


def test_base_in_a_circle_of_three(write):
    write("base: second")
    write("base: third", "second")
    write("base: mine", "third")
    assert_all_in(["params/mine.yaml", "mine -> second -> third -> mine"], complaint())


def test_a_mistake_in_a_base_names_the_base(write):
    write("base: under")
    write(run_file("sede: 3"), "under")
    assert_all_in(["params/under.yaml", "'sede'"], complaint())
    write(run_file(train="epochs: 3") + "x: [", "under")
    assert "params/under.yaml" in complaint()


def test_a_wrong_value_in_a_base_names_the_base(write):
    write("base: under\nseed: 3")
    write(run_file(train="epochs: many"), "under")
    assert_all_in(["params/under.yaml", "epochs = 'many'"], complaint())


@pytest.mark.parametrize(
    ("run", "parts"),
    [
        ("nowhere", ["RUN=nowhere", "params/nowhere.yaml", "runs: mine"]),
        ("mime", ["RUN=mime", "did you mean 'mine'"]),
        ("", ["RUN=", "runs: mine"]),
        ("../mine", ["RUN=../mine"]),
        ("a b", ["RUN=a b"]),
        (".hidden", ["RUN=.hidden"]),
    ],
)
def test_unknown_run(write, run, parts):
    assert_all_in(parts, complaint(run))


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        ("epochs", ["SET=epochs", "is not key=value", 'SET="03_train.epochs=2 seed=7"']),
        ("seed=", ["SET=seed=", "is not key=value"]),
        ("=3", ["SET==3", "is not key=value"]),
        ("seed = 7", ["SET=seed = 7", "is not key=value"]),
        ("03_train.=3", ["is not key=value"]),
        ("seed='7", ["SET=seed='7", "quotation", 'write SET="']),
        ("sede=7", ["SET=sede", "'sede'", "did you mean 'seed'"]),
        ("epochs=7", ["SET=epochs", "'epochs'", "write 03_train.epochs"]),
        ("base=quick", ["SET=base", "unknown common key 'base'"]),
        ("run=other", ["SET=run", "unknown common key 'run'"]),
        (
            "3_train.epochs=2",
            ["SET=3_train.epochs", "no section '3_train'", "did you mean '03_train'"],
        ),
        ("seed.x=2", ["SET=seed.x"]),
        ("03_train.epoch=2", ["SET: 03_train.epoch = 2", "did you mean 'epochs'"]),
        ("03_train.seed=2", ["03_train.seed = 2", "at the top level"]),
        ("03_train.epochs=two", ["SET: 03_train.epochs = 'two'", "a whole number"]),
        ("03_train.epochs=0", ["03_train", "epochs = 0", "between 1 and 5000"]),
        ("seed=[1", ["SET=seed", "'[1'", "is not a value"]),
        ("seed=010", ["SET=seed", "010", "octal", "plain decimal"]),
        ("blocks=[1,1]", ["blocks, widths", "as many of each"]),
        (
            "widths=[4,8,8,8]",
            ["widths = 4", "between 8 and 2048"],
        ),  # oneDNN crashes, see lib.settings
        ("dataset=auto", ["dataset = 'auto'", "dataset: cifar10"]),
        ("seed=\x07", ["SET=seed"]),
        ("seed=2025-99-99", ["SET=seed"]),
    ],
)
def test_mistake_in_set_is_one_line(write, overrides, parts):
    assert_all_in(parts, complaint(overrides=overrides))


def test_set_in_a_section_that_the_file_lacks(write):
    write("dataset: cifar10\n01_explore_data: {}\n")
    assert_all_in(
        ["missing section '02_build_model'", "params/mine.yaml"],
        complaint(overrides="03_train.epochs=2"),
    )


@pytest.mark.parametrize(
    ("seed", "parts"),
    [
        ("abc", ["seed = 'abc'", "a whole number"]),
        ("-3", ["seed = -3", "between 0"]),
        ("1.5", ["seed = 1.5"]),
        ("[", ["SEED=[", "not a value"]),
    ],
)
def test_mistake_in_seed(write, seed, parts):
    assert_all_in(parts, complaint(seed=seed))


def test_a_seed_twice_is_refused(write):
    assert_all_in(["SEED=3", "leave one out"], complaint(overrides="seed=4", seed="3"))


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("06_report.course='CS #5'", "CS #5"),
        ("06_report.course=101", "101"),
        ("06_report.course='Deep Learning: WS26'", "Deep Learning: WS26"),
        ("06_report.author=No", "No"),
        ("""06_report.author='"A. Name"'""", "A. Name"),
        ("08_deploy.weight_bits=8", "8"),
    ],
)
def test_a_text_in_set_is_taken_as_it_is(given, value):
    """YAML would cut it at a # or read a number or a truth; in quotes of its own it is YAML's."""
    key, _, name = given.partition("=")[0].rpartition(".")
    assert params.load("quick", given).values[key][name] == value


def test_results_of_set_never_go_to_another_runs_directory(write):
    write(run_file(), "mine-seed3")
    assert_all_in(["results/mine-seed3", "params/mine-seed3.yaml"], complaint(seed=3))
    assert_all_in(["results/mine-seed3", "params/mine-seed3.yaml"], complaint(overrides="seed=3"))
    assert params.load("mine", seed=4).name == "mine-seed4"
    assert params.load("mine-seed3").name == "mine-seed3"


# What a good file means


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E-3", 0.001),
        ("1.0e-3", 0.001),
        ("5e-1", 0.5),
        ("1", 1.0),
        ("0.25", 0.25),
        (".5", 0.5),
    ],
)
def test_numbers_mean_what_they_look_like(write, text, value):
    write(run_file(train=f"learning_rate: {text}"))
    found = params.load("mine").values["03_train"]["learning_rate"]
    assert found == value and type(found) is float
    found = params.load("mine", f"03_train.learning_rate={text}").values["03_train"][
        "learning_rate"
    ]
    assert found == value and type(found) is float


def test_numbers_in_lists_become_floats(write):
    write(run_file(train="blur_sigma: [1e-1, 2]"))
    assert params.load("mine").values["03_train"]["blur_sigma"] == [0.1, 2.0]


def test_common_values_reach_the_notebooks_that_declare_them(write):
    write(
        run_file(
            "dataset: cifar10\nseed: 7\nwidths: [8, 16, 16, 16]\nthreads: 1", train="epochs: 9"
        )
    )
    run = params.load("mine")
    assert list(run.values) == list(SECTIONS)
    assert [values.get("seed") for values in run.values.values()] == (
        [7] * 3 + [None] * (len(SECTIONS) - 3)
    )
    with_threads = [name for name, values in run.values.items() if values.get("threads") == 1]
    assert with_threads == ["03_train", "04_predict_tta", "07_robustness"]
    assert not any("threads" in run.values[name] for name in SECTIONS if name not in with_threads)
    assert (
        run.values["02_build_model"]["widths"]
        == run.values["03_train"]["widths"]
        == [8, 16, 16, 16]
    )
    assert run.values["03_train"]["epochs"] == 9
    assert {values["run"] for values in run.values.values()} == {"mine"}
    assert run.settings("03_train").widths == (8, 16, 16, 16)
    assert json.loads(json.dumps(run.values)) == run.values  # plain types, as Papermill needs them


def test_what_is_not_given_is_the_documented_default(write):
    values = params.load("mine").values["03_train"]
    assert (
        values["epochs"] == 100
        and values["learning_rate"] == 0.1
        and values["dataset"] == "cifar10"
    )
    assert values["blocks"] == [4, 4, 4, 3] and values["weight_decay"] == 0.0005


def test_bases_are_merged_deeply(write):
    write(
        run_file(
            "dataset: cifar10\nseed: 1\nwidths: [8, 8, 8, 8]",
            train="epochs: 3\nmomentum: 0.5\nblur: 0.1",
        ),
        "a",
    )
    write("base: a\nseed: 2\n03_train:\n  epochs: 4\n  cutmix: 0.25\n", "b")
    write("base: b\nwidths: [12, 12, 12, 12]\n03_train:\n  blur: 0.3\n05_confusion: {pairs: 2}\n")
    run = params.load("mine")
    found = run.values["03_train"]
    assert (found["seed"], found["epochs"], found["momentum"], found["cutmix"]) == (2, 4, 0.5, 0.25)
    # Lists are replaced, not joined.
    assert (found["blur"], found["widths"]) == (0.3, [12, 12, 12, 12])
    assert run.values["05_confusion"]["pairs"] == 2 and run.name == "mine"
    assert params.load("a").values["03_train"]["epochs"] == 3


def test_comments_order_and_inheritance_do_not_matter(write):
    write(run_file("dataset: cifar10\nseed: 3", train="epochs: 5\ncutmix: 0.1"), "plain")
    write("# why\n03_train:\n  cutmix: 1e-1  # a comment\nbase: under\n")
    write(run_file("seed: 3\ndataset: cifar10", train="cutmix: 0.9\nepochs: 5"), "under")
    same = {name: {**values, "run": ""} for name, values in params.load("mine").values.items()}
    assert same == {
        name: {**values, "run": ""} for name, values in params.load("plain").values.items()
    }


def test_what_differs_on_the_digits(write):
    """Values of on_digits hold where the digits are taken, and SET goes before them."""
    write(run_file("on_digits: {03_train: {cutmix: 0.25, blur: 0.5}}"), "quick")
    loaded = params.load("quick", "03_train.blur=0.75 dataset=digits")
    train = params.with_dataset(loaded).values["03_train"]
    assert (train["dataset"], train["cutmix"], train["blur"]) == ("digits", 0.25, 0.75)
    assert loaded.values["03_train"]["cutmix"] != 0.25
    write(run_file(), "quick")
    assert params.load("quick").on_digits == {}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("[1]", ["params/mine.yaml: on_digits", "sections of notebooks"]),
        ("{epochs: 3}", ["on_digits: 'epochs' is no notebook"]),
        ("{03_trian: {}}", ["'03_trian' is no notebook", "did you mean '03_train'"]),
        ("{03_train: {cutmixx: 1}}", ["on_digits.03_train.cutmixx", "did you mean 'cutmix'"]),
        ("{03_train: {cutmix: 2}}", ["on_digits.03_train.cutmix = 2"]),
    ],
)
def test_mistakes_in_what_differs_on_the_digits(write, given, said):
    write(run_file(f"on_digits: {given}"))
    assert_all_in(said, complaint())


@pytest.mark.parametrize("run", ["quick", "smoke"])
def test_the_shipped_runs_load_and_may_take_other_data(run):
    for dataset in ("auto", "digits", "cifar10"):
        found = params.load(run, f"dataset={dataset}").values["03_train"]["dataset"]
        assert found == dataset
    assert params.load(run).name == run


def test_shipped_runs_have_a_header_that_says_what_they_cost():
    files = sorted((ROOT / "params").glob("*.yaml"))
    assert {"quick", "smoke"} <= {path.stem for path in files}
    for path in files:
        text = path.read_text(encoding="utf-8")
        header = text.split("\n\n")[0]
        assert text.startswith(f"# {path.stem}:") and "Cost:" in header and "CPU" in header


# Results directories


def test_own_seed_is_the_run_itself_and_another_has_its_own_directory(write):
    write(run_file("dataset: cifar10\nseed: 5"))
    for arguments in ({}, {"seed": 5}, {"seed": "5"}, {"seed": ""}, {"overrides": "seed=5"}):
        assert params.load("mine", **arguments).name == "mine"
    for arguments in ({"seed": 3}, {"seed": "3"}, {"overrides": "seed=3"}):
        found = params.load("mine", **arguments)
        assert found.name == "mine-seed3" and found.file == "mine"
        assert (
            found.values["03_train"]["seed"] == 3
            and found.values["03_train"]["run"] == "mine-seed3"
        )


def test_own_seed_of_a_file_without_one_is_the_default(write):
    assert params.load("mine", seed=42).name == "mine"
    assert params.load("mine", seed=43).name == "mine-seed43"


def test_own_seed_from_a_base(write):
    write(run_file("dataset: cifar10\nseed: 5"), "under")
    write("base: under")
    assert (
        params.load("mine", seed=5).name == "mine"
        and params.load("mine", seed=42).name == "mine-seed42"
    )


def test_set_has_a_directory_named_after_it(write):
    found = params.load("mine", "03_train.epochs=2 seed=7")
    assert found.name == "mine-epochs2-seed7"
    assert (found.values["03_train"]["epochs"], found.values["03_train"]["seed"]) == (2, 7)
    assert params.load("mine", "seed=7 03_train.epochs=2").name == found.name
    assert params.load("mine", "03_train.epochs=2", seed=7).name == found.name


def test_a_name_on_the_page_is_no_other_run(write):
    """It must not train again what was trained: only the page is made anew."""
    plain, named = params.load("mine"), params.load("mine", "06_report.author='A. Name'")
    assert named.name == "mine" and named.values["06_report"]["author"] == "A. Name"
    assert {**plain.values, "06_report": {}} == {**named.values, "06_report": {}}
    assert params.load("mine", "seed=7 06_report.author=A").name == "mine-seed7"


def test_set_takes_lists_text_and_booleans(write):
    found = params.load(
        "mine", "blocks=[1,1] widths='[8, 16]' strides=[1,2] comparison=true 03_train.schedule=step"
    )
    values = found.values["03_train"]
    assert (values["blocks"], values["widths"], values["comparison"]) == ([1, 1], [8, 16], True)
    assert values["schedule"] == "step"


DIFFERENT = [
    "03_train.batch_size=32",
    "04_predict_tta.batch_size=32",
    "02_build_model.batch_size=32",
    "seed=32",
    "03_train.holdout_images=200",
    "04_predict_tta.holdout_images=200",
    "03_train.learning_rate=0.5",
    "03_train.learning_rate=0.05",
    "03_train.learning_rate=1e-5",
    "04_predict_tta.views=[original]",
    "04_predict_tta.shifted_set=a/b",
    "04_predict_tta.shifted_set=a_b",
    "04_predict_tta.shifted_set=a//b",
    "03_train.epochs=1 03_train.batch_size=32",
    "widths=[8,8,8,8]",
    "widths=[8,8,8,80]",
    "04_predict_tta.shifted_set='" + "x" * 200 + "'",
]


def test_different_changes_have_different_directories(write):
    names = {}
    for overrides in DIFFERENT:
        name = params.load("mine", overrides).name
        assert name not in names, (
            f"{overrides} and {names[name]} would both write to results/{name}"
        )
        names[name] = overrides


@pytest.mark.parametrize("overrides", DIFFERENT)
def test_directory_names_are_safe_in_a_path(write, overrides):
    name = params.load("mine", overrides).name
    assert name.startswith("mine-") and len(name) <= 100
    assert (
        set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
        and ".." not in name
    )


# The dataclasses that own the parameters


@pytest.mark.parametrize("section", SECTIONS)
def test_every_default_obeys_its_own_rules(section):
    kind = settings.SECTIONS[section]
    made = checks.build(kind, {}, section)
    assert made == kind()
    for item in settings.fields(kind):
        assert item.metadata["doc"] and checks.check(getattr(made, item.name), item, "") == getattr(
            made, item.name
        )


def test_every_parameter_is_described_once_and_groups_stay_together():
    for kind in settings.SECTIONS.values():
        rows = checks.described(kind)
        assert [row.name for row in rows] == [item.name for item in settings.fields(kind)]
        assert all(row.meaning and row.values and row.group for row in rows)
        assert all(getattr(kind(), row.name) == row.default for row in rows)
    rows = {row.name: row for row in checks.described(settings.Train)}
    # fmt: off
    assert list(dict.fromkeys(row.group for row in rows.values())) == [
        "where", "data", "network", "optimiser and schedule", "augmentation", "loss",
        "second phase", "looking",
    ]
    # fmt: on
    assert rows["epochs"][3:] == ("passes over the training images", "a whole number, 1 to 5,000")
    assert rows["blur_sigma"].values == "list, each a number, 0.01 to 10"
    assert rows["crop_mode"].values == "one of zero, reflect"
    assert rows["nesterov"].values == "true or false"


@pytest.fixture
def short_cells(write, tmp_path, monkeypatch):
    """Notebooks whose cells declare few of their parameters, and one that lib.settings lacks."""
    monkeypatch.setattr("bundle.paths.NOTEBOOKS", tmp_path)
    cells = dict.fromkeys(SECTIONS, "run = 'quick'")
    cells["03_train"] = "run = 'quick'\nepochs = 3\nblocks = [1, 1]\nmomentum = 0.5"
    cells["07_own"] = "run = 'quick'\nseed = 1\nshown = 4\nsizes = [1, 2]"
    for name, source in cells.items():
        cell = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": [source]}
        (tmp_path / f"{name}.ipynb").write_text(json.dumps({"cells": [cell]}))
    write(run_file("seed: 7\nwidths: [8, 8, 8, 8]", train="ema: 0.9") + "07_own: {shown: 5}\n")
    return cells


def test_a_parameter_needs_no_line_in_the_notebook(short_cells):
    run = params.load("mine", "03_train.blur=0.25 logit_scale=2")
    values = run.values["03_train"]
    assert list(values) == [item.name for item in settings.fields(settings.Train)]
    assert (values["ema"], values["blur"], values["logit_scale"]) == (0.9, 0.25, 2.0)
    assert run.values["02_build_model"]["seed"] == 7 and "seed" not in run.values["05_confusion"]
    assert run.values["07_own"] == {"run": run.name, "seed": 7, "shown": 5, "sizes": [1, 2]}
    assert_all_in(["SET: 07_own.pairs = 1", "unknown key"], complaint(overrides="07_own.pairs=1"))


def test_papermill_gets_what_differs_from_the_notebooks_own_defaults(short_cells):
    run = params.load("mine")
    assert run.injected("03_train") == {
        "run": "mine", "seed": 7, "widths": [8, 8, 8, 8], "ema": 0.9,
        "epochs": 100, "blocks": [4, 4, 4, 3], "momentum": 0.9,
    }  # fmt: skip
    assert run.injected("05_confusion") == {"run": "mine"}
    assert run.injected("07_own") == {"run": "mine", "seed": 7, "shown": 5}


@pytest.mark.parametrize("run", ["quick", "as_run", "best"])
def test_cell_and_injected_values_give_the_same_settings_as_all_values(run):
    loaded = params.load(run, "seed=3 03_train.blur=0.5 04_predict_tta.test_images=100")
    for name, kind in settings.SECTIONS.items():
        seen = {**params.parameter_cell(name), **loaded.injected(name)}
        assert checks.build(kind, seen, name) == loaded.settings(name)
        assert loaded.injected(name)["run"] == loaded.name


def test_settings_are_frozen():
    with pytest.raises(AttributeError):
        settings.Train().epochs = 3


# Through the command line


def tree_of(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """The parameter files and an earlier result, to be left as it is."""
    folder = tmp_path_factory.mktemp("bundle")
    shutil.copytree(ROOT / "params", folder / "params")
    (folder / "results" / "bad" / "training").mkdir(parents=True)
    (folder / "results" / "bad" / "metrics.json").write_text('{"run": "bad"}')
    (folder / "results" / "bad" / "training" / "weights.pt").write_bytes(b"precious")
    (folder / "params" / "bad.yaml").write_text(run_file(train="epochs: abc"))
    return folder


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["bad"], ["params/bad.yaml", "epochs = 'abc'", "a whole number"]),
        (
            ["quick", "--set", "03_train.epoch=2"],
            ["SET: 03_train.epoch = 2", "did you mean 'epochs'"],
        ),
        (["quikc"], ["RUN=quikc", "did you mean 'quick'"]),
    ],
)
def test_the_command_says_one_line_and_touches_nothing(
    earlier, arguments, parts, monkeypatch, capsys
):
    before = tree_of(earlier / "results")
    monkeypatch.setattr("bundle.paths.PARAMS", earlier / "params")
    monkeypatch.setattr("bundle.paths.RESULTS", earlier / "results")
    with pytest.raises(SystemExit) as left:
        exit_on_user_error(lambda: main(["run", *arguments]))
    done = capsys.readouterr()
    assert left.value.code == 2
    lines = done.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and done.out == ""
    assert_all_in(parts, lines[0])
    assert tree_of(earlier / "results") == before and len(before) == 2
    assert [path.name for path in (earlier / "results").iterdir()] == ["bad"]


@pytest.mark.parametrize(
    ("asked", "call"),
    [
        (("cpu", "", 43), "make run-all RUN=cpu SEED=43"),
        (("cpu_augmix", "", None), "make run-all RUN=cpu_augmix"),
        (("cpu", "03_train.epochs=2", 43), "make run-all with the RUN and SET of this run"),
    ],
)
def test_the_call_that_goes_on_with_a_run_names_its_seed(asked, call):
    assert run_again(params.load(*asked).name) == call
