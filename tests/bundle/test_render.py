"""A release rendered anew from its record alone, and what its report then is."""

import re
import shutil
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from bundle import paths
from bundle.pages import publish
from bundle.release import pages
from tests.conftest import Bundle

pytestmark = pytest.mark.slow
RELEASED = paths.RESULTS / "released"


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Path:
    """Releases of cpu in a bundle without runs and dataset: one with files too many, two records.

    The first and the last are rendered anew.
    """
    made = Bundle(tmp_path_factory.mktemp("rendered") / "bundle")
    folder = made.folder / "results" / "released"
    for run in ("cpu", "cpu-seed43", "cpu-seed44"):
        shutil.copytree(RELEASED / run, folder / run)
    assert not (folder / "cpu-seed44" / "report.html").exists()
    for written in ("report.html", "figures/report_gone.svg", "figures/drawn_by_another.svg"):
        (folder / "cpu" / written).write_text("older")
    (folder / "cpu-seed44" / "model_card.md").write_text("older")
    done = made.run("bundle", "render", "cpu", "cpu-seed44")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def page(released) -> Path:
    return released / "cpu" / "report.html"


def test_metrics_and_trainings_keep_their_bytes(released):
    for run in ("cpu", "cpu-seed44"):
        for path in (RELEASED / run / "metrics.json", *(RELEASED / run / "training").iterdir()):
            assert (released / path.relative_to(RELEASED)).read_bytes() == path.read_bytes(), path
    assert [path.name for path in released.parent.iterdir()] == ["released"]


def test_a_report_has_its_figures_and_those_of_others_go(released, page):
    text = page.read_text()
    assert pages.rendered_by() in text and "data:image" not in text and "AUTHOR=" not in text
    figures = {path.name for path in (released / "cpu" / "figures").iterdir()}
    assert "report_curves.svg" in figures
    assert not {"report_gone.svg", "drawn_by_another.svg"} & figures


def test_a_record_gets_a_card_alone(released):
    record = released / "cpu-seed44"
    assert "Released as a record:" in (record / "model_card.md").read_text()
    assert not (record / "report.html").exists() and not (record / "figures").exists()


def test_a_card_leads_to_report_and_figures(released):
    folder = released / "cpu"
    card = (folder / "model_card.md").read_text()
    pictures = re.findall(r"!\[([^]]*)\]\(([^)]*)\)", card)
    assert len(pictures) == 3 and all(len(alt) > 20 for alt, _ in pictures)
    links = re.findall(r"\]\((?!https?:|#)([^)]*)\)", card)
    assert "report.html" in links and all((folder / link).is_file() for link in links)
    assert (folder / "report.pdf").is_file() == bool(publish.find_chromium())


def test_a_report_of_a_record_has_all_parts_without_photographs(released, page):
    html = page.read_text(encoding="utf-8")
    text = BeautifulSoup(html, "html.parser").get_text(" ", strip=True)
    assert "Traceback" not in text and "left out" not in text
    headings = [each.get_text() for each in BeautifulSoup(html, "html.parser").find_all("h2")]
    wanted = {"Abstract", "The network", "Method", "Training", "Result", "What was learned"}
    wanted |= {"Compared with other work", "Limitations", "Provenance", "References"}
    assert wanted <= {*headings}
    assert "93.57%" in text and "4,754,218" in text and "expected calibration" not in text
    drawn = {path.stem for path in (released / "cpu" / "figures").glob("report_*.svg")}
    assert drawn == {"report_network", "report_curves", "report_confusion", "report_anchors"}


def test_every_number_in_brackets_leads_to_a_reference(page):
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    listed = soup.find(id="references").find_next("ol").find_all("li")
    cited = {int(number) for number in re.findall(r"\[(\d+)\]", soup.find("main").get_text())}
    assert cited == set(range(1, len(listed) + 1)) and len(listed) >= 6


def test_the_report_of_a_full_run_prints_to_four_pages(page):
    if not publish.find_chromium():
        pytest.skip("no Chromium")
    found = re.findall(rb"/Type\s*/Page\b(?!s)", page.with_suffix(".pdf").read_bytes())
    assert 2 <= len(found) <= 4
