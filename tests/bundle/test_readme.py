"""README and the pages in docs/: size, links, the commands they name, the generated sections."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from bundle import readme
from bundle.claims import judge
from bundle.paths import ROOT
from lib import settings
from lib.errors import UserError

LIMIT = 8192  # bytes of README: what one reads on the first visit
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
FENCED = re.compile(r"^```[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")
# One error message says "cannot make a virtual environment": no command.
MAKE = re.compile(r"(?<!cannot )\bmake(?: +-[\w-]+)* +([a-z][a-z-]*)")


def code(text: str) -> str:
    """What a page shows as code, in blocks and within its lines."""
    inline = [snippet.replace("\n", " ") for snippet in INLINE.findall(FENCED.sub("", text))]
    return "\n".join(FENCED.findall(text) + inline)


def links(text: str) -> list[str]:
    """The relative links of a page, in Markdown and HTML, without those in code."""
    prose = INLINE.sub("", FENCED.sub("", text))
    found = [first or second for first, second in LINK.findall(prose)]
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page: Path) -> list[str]:
    return [link for link in links(page.read_text(encoding="utf-8")) if not resolves(page, link)]


def resolves(page: Path, link: str) -> bool:
    """Whether a link leads to a file of the bundle and, where it names one, to a heading there."""
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    if not target.is_file() or ROOT not in target.parents:
        return False
    return not anchor or anchor in anchors(target.read_text(encoding="utf-8"))


def named_targets() -> dict[str, set[str]]:
    """The make targets that each page names."""
    return {page.name: set(MAKE.findall(code(page.read_text(encoding="utf-8")))) for page in PAGES}


def test_readme_is_short():
    assert (ROOT / "README.md").stat().st_size <= LIMIT


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    assert broken(page) == []


def test_a_broken_link_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.bundle.test_readme.ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "# One: a *b*\n[a](#one-a-b) [b](page.md#two) [c](none.md) [d](https://x.y) `[e](no)`\n"
        '![f](../f.png) <img src="g.svg">\n```\n# two\n```\n'
    )
    assert broken(page) == ["page.md#two", "none.md", "../f.png", "g.svg"]


def test_every_docs_page_is_linked_from_readme():
    linked = set(links((ROOT / "README.md").read_text(encoding="utf-8")))
    assert {f"docs/{page.name}" for page in PAGES if page.parent.name == "docs"} <= linked


def test_pages_name_targets_that_exist():
    targets = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
    wrong = {name: found - targets for name, found in named_targets().items()}
    assert not any(wrong.values()), wrong


def test_every_target_with_a_help_text_is_described():
    helped = set(re.findall(r"^([a-z][a-z-]*):.*## ", MAKEFILE, re.MULTILINE))
    assert {"run-all", "test", "check"} <= helped
    assert helped - set().union(*named_targets().values()) == set()


@pytest.mark.parametrize("section", readme.SECTIONS)
def test_marks_stand_once_in_their_page_alone(section):
    begin, end = readme.marks(section)
    for page in PAGES:
        text, here = page.read_text(encoding="utf-8"), page == ROOT / readme.SECTIONS[section][0]
        assert text.count(begin) == text.count(end) == here
    begins = ("| ", "**", "|  |", "<picture>", "[", "Of ", "## ")
    assert readme.read(section).startswith(begins)


def test_every_parameter_stands_once_with_its_default():
    page = readme.read("parameters")
    assert page == readme.parameters()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
    names = [(row[0], row[1], row[2], row[3]) for row in rows]
    assert len(names) == len(set(names))
    every = {field.name for section in settings.SECTIONS.values() for field in fields(section)}
    assert {row[0].strip("|` ") for row in rows} == every
    assert "| `muon_steps` | optimiser and schedule | `5` |" in page
    assert "`True`" not in page and "`False`" not in page  # as a file of parameters has it


def test_every_claim_stands_in_the_fact_check():
    claims = judge.read_claims()
    page = readme.read("claims")
    rows = [line for line in page.splitlines() if re.match(r"\| (?!claim|---)", line)]
    assert len(rows) == len(claims) and page.startswith(f"Of {len(claims)} claims: ")
    counts = [int(count) for count in re.findall(r"^## \w+ \((\d+)\)$", page, re.MULTILINE)]
    assert sum(counts) == len(claims)


def test_the_badge_opens_the_notebook_where_the_code_is_published(tmp_path, monkeypatch):
    assert readme.read("colab") == readme.colab()
    address = re.search(r"^repository-code:.*", (ROOT / "CITATION.cff").read_text(), re.M)
    notebook = (ROOT / "notebooks" / "colab.ipynb").read_text(encoding="utf-8")
    cloned = re.search(r'repository = \\"(.*?)\\"', notebook)[1]
    assert cloned in address[0] if address else cloned == ""
    monkeypatch.setattr(readme.paths, "ROOT", tmp_path)
    for given in ("https://github.com/a-b/c.d", '"https://github.com/a-b/c.d.git"'):
        (tmp_path / "CITATION.cff").write_text(f"title: x\nrepository-code: {given}\n")
        page = "https://colab.research.google.com/github/a-b/c.d/blob/main/notebooks/colab.ipynb"
        assert readme.colab().endswith(f"]({page})")
    (tmp_path / "CITATION.cff").write_text("repository-code: https://elsewhere.org/a/b\n")
    assert readme.colab().startswith("[`notebooks/colab.ipynb`](notebooks/colab.ipynb)")


def test_put_replaces_one_section_of_its_page(tmp_path, monkeypatch):
    monkeypatch.setattr(readme.paths, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    page, (begin, end) = tmp_path / "docs" / "study.md", readme.marks("ingredients")
    page.write_text("no marks\n")
    with pytest.raises(UserError, match=r"docs/study\.md: the marks"):
        readme.put("| new |", "ingredients")
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    readme.put("| new |", "ingredients")
    assert page.read_text() == f"before\n{begin}\n| new |\n{end}\nafter\n"
    assert readme.read("ingredients") == "| new |"


def metrics(**changed):
    """Hand-written metrics of a full run, with what the headline and the table of results need."""
    return {
        "dataset": "cifar10",
        "notice": "",
        "parameters": 1_971_362,
        "mmac": 118.0,
        "seed": 42,
        "settings": {"seed": 42},
        "test": {"images": 10_000, "accuracy": 0.934, "tta_accuracy": 0.94}
        | {"low": 0.929, "high": 0.9387},
        "tta": {"combination": "shifts"},
        "environment": {"device": "cpu", "threads": 2, "precision": "bf16"},
        "train": {"epochs": 10, "seconds": 1275.0, "tflop": 354.0, "joules": None, "stale": []},
        **changed,
    }


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """An empty bundle in which releases are written: name -> its folder."""
    monkeypatch.setattr(readme.paths, "ROOT", tmp_path)
    monkeypatch.setattr(readme.paths, "RESULTS", tmp_path / "results")

    def release(name, found):
        folder = tmp_path / "results" / "released" / name
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps(found))
        return folder

    return release


def test_headline_is_told_from_what_is_released(bundle):
    assert readme.headline() == "*No run on all of CIFAR-10 is released yet.*"
    bundle("cpu", metrics())
    slow = metrics(seed=3, environment={"device": "cpu", "threads": 2, "precision": "fp32"})
    slow["test"] = slow["test"] | {"accuracy": 0.936}
    slow["train"] = slow["train"] | {"seconds": 2760.0}
    bundle("cpu-seed3", slow)
    small = (
        "**93.5% on CIFAR-10 in 21 minutes on two CPU cores**, with 1,971,362 parameters\n"
        "(`cpu`, mean of 2 seeds, a single view of each test image; "
        "21 minutes in bf16 and 46 minutes in fp32)."
    )
    assert readme.headline() == small
    where = {"device": "cuda", "device_name": "NVIDIA X", "threads": 2, "precision": "bf16"}
    wider = {"seed": 42, "widths": [64, 128, 256]}
    gpu = metrics(parameters=4_697_162, environment=where, settings=wider)
    gpu["train"] = gpu["train"] | {"seconds": 281.0}
    bundle("best", gpu | {"test": {**gpu["test"], "accuracy": 0.97}})
    first, second = readme.headline().split("\n\n")
    assert first == (
        "**97.0% on CIFAR-10 in 5 minutes on one NVIDIA X**, with 4,697,162 parameters\n"
        "(`best`, one seed, a single view of each test image)."
    )
    assert second == small


def test_results_link_what_github_shows_of_a_release(bundle):
    folder = bundle("cpu", metrics())
    assert readme.row("cpu")[-1] == ""
    (folder / "model_card.md").write_text("card")
    (folder / "report.html").write_text("GitHub shows its source")
    assert readme.row("cpu")[-1] == "[model card](results/released/cpu/model_card.md)"
    (folder / "report.pdf").write_bytes(b"%PDF")
    assert readme.row("cpu")[-1].startswith("[report](results/released/cpu/report.pdf), [model")
    assert readme.row("cpu")[4] == "10 epochs, 21 minutes"


def test_committed_readme_has_the_headline():
    assert readme.read("headline") == readme.headline()
    assert 'src="docs/anchors.svg" alt="Test accuracy' in readme.read("comparison")


def test_links_are_relative_to_the_page():
    assert readme.link("ingredients", "results/released/x.html") == "../results/released/x.html"
    assert readme.link("anchors", "docs/anchors.svg") == "anchors.svg"
    assert readme.link("results", "docs/report.png") == "docs/report.png"


def test_hooks_use_the_locked_ruff_and_keep_cell_ids():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    by_name = {Path(hook["repo"]).name: hook for hook in hooks}
    locked = re.search(r"^ruff==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)[1]
    assert by_name["ruff-pre-commit"]["rev"] == f"v{locked}"
    assert "--keep-id" in by_name["nbstripout"]["hooks"][0]["args"]
