"""The examples of docs/extend.md, applied to a copy of the bundle and trained."""

import json
import re

import pytest

from bundle.paths import ROOT


def examples() -> list[str]:
    return re.findall(r"```diff\n(.*?)```", (ROOT / "docs" / "extend.md").read_text(), re.DOTALL)


def apply(folder, diff: str) -> int:
    """Replace the diff's old lines by its new ones in each file named; count the new ones."""
    added = 0
    for file, hunk in re.findall(r"^ # (\S+)\n(.*?)(?=^ # |\Z)", diff, re.DOTALL | re.MULTILINE):
        lines = hunk.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] in " -")
        after = "".join(line[1:] for line in lines if line[0] in " +")
        text = (folder / file).read_text()
        assert text.count(before) == 1, (
            f"docs/extend.md: its lines for {file} are not there exactly once:\n{before}"
        )
        (folder / file).write_text(text.replace(before, after))
        added += sum(line[0] == "+" and line.strip() != "+" for line in lines)
    return added


def weights(bundle, *arguments: str) -> str:
    done = bundle.run("bundle", "train", "smoke", *arguments)
    assert done.returncode == 0, done.stderr
    (state,) = bundle.folder.glob("results/*/training/state.json")
    return json.loads(state.read_text())["weights_sha256"]


@pytest.fixture(scope="module")
def original(smoke) -> str:
    state = json.loads((smoke.results() / "training" / "state.json").read_text())
    return state["weights_sha256"]


@pytest.mark.parametrize(
    ("number", "setting"),
    [(0, "03_train.grey=1.0"), (1, "03_train.schedule=square_root"), (2, "block=averaging")],
)
def test_example_changes_the_training(bundle, original, number, setting):
    assert 2 <= apply(bundle.folder, examples()[number]) <= 10
    assert weights(bundle, "--set", setting) != original
    if number == 2:
        done = bundle.run("bundle", "run", "smoke", "--set", setting, "--until", "02_build_model")
        assert done.returncode == 0, done.stderr


def test_there_are_three():
    assert len(examples()) == 3
