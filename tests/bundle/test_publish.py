"""Pages, index and PDF: self-contained, described, readable, written only when changed."""

import html
import json
import re
import subprocess
import sys

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from bundle import figures, paths
from bundle.__main__ import main
from bundle.pages import convert, index, publish
from lib import plots
from lib.errors import UserError

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJ"
    "RU5ErkJggg=="
)
TABLE = """<div><style scoped>.dataframe {}</style><table border="1" class="dataframe">
<thead><tr><th></th><th>recall</th><th>pair</th></tr><tr><th>class</th><th></th><th></th></tr></thead>
<tbody><tr><th>cat</th><td>0.875</td><td>dog</td></tr><tr><th>ship</th><td>−1,024</td><td>truck</td></tr></tbody>
</table></div>"""
STORY = r"""# How good is it?

Accuracy $\hat{p} = \frac{k}{n}$, on [the test set](../notebooks/05_confusion.ipynb), for 5\$ & no more.

## Loss

$$\mathcal{L} = -\sum_k y_k \log p_k$$

\begin{align}a &= b \\ c &= d\end{align}

### Details & such

| a | b |
|---|---|
| 1 | x |

## Loss
"""  # noqa: E501 (a Markdown paragraph)
NOTICE = "handwritten digits, not CIFAR-10"


def picture(alt="A red dot"):
    data = {"image/png": PIXEL, "text/plain": "<Figure>"}
    return new_output(
        "display_data", data=data, metadata={"image/png": {"alt": alt}} if alt else {}
    )


def code(source, *outputs, tags=()):
    return new_code_cell(
        source, outputs=list(outputs), execution_count=1, metadata={"tags": list(tags)}
    )


def sample(alt="A red dot"):
    return [
        new_markdown_cell(STORY),
        code("epochs = 1", tags=["parameters"]),
        code("# Parameters\nepochs = 77", tags=["injected-parameters"]),
        code("secret_setup()", tags=["hide"]),
        code("print('hello')", new_output("stream", name="stdout", text="hello from stdout\n")),
        code("noise()", new_output("stream", name="stderr", text="a warning\n")),
        code(
            "frame",
            new_output(
                "execute_result", data={"text/html": TABLE, "text/plain": "t"}, execution_count=1
            ),
        ),
        code("plots.show(figure)", picture(alt)),
    ]


def write(path, cells):
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=cells, metadata={"language_info": {"name": "python"}}), path)
    return path


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    return tmp_path


@pytest.fixture
def run(results):
    for name in ("01_explore_data", "04_predict_tta", "06_report"):
        write(results / "quick" / f"{name}.ipynb", sample())
    metrics = {
        "dataset": "digits",
        "notice": NOTICE,
        "environment": {"commit": "0123456789abcdef", "dirty": False},
    }
    (results / "quick" / "metrics.json").write_text(json.dumps(metrics))
    publish.render_run("quick")
    return results / "quick"


def soup(page):
    return BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")


def rendered(results, cells, **options):
    executed = write(results / "quick" / "03_train.ipynb", cells)
    publish.render(executed, executed.with_suffix(".html"), **options)
    return soup(executed.with_suffix(".html"))


def test_importing_publish_does_not_import_nbconvert():
    check = "import sys, bundle.pages.publish; sys.exit('nbconvert' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_image_without_alt_text_fails_with_one_line(results):
    with pytest.raises(
        UserError, match=r"03_train\.ipynb: cell 8 \(In \[1\]\): an image without alt text"
    ) as error:
        rendered(results, sample(alt=""))
    assert "\n" not in str(error.value)
    assert not (results / "quick" / "03_train.html").exists()


@pytest.mark.parametrize(
    "source", ["![](figure.png)", '<img src="data:,">', '<img src="data:," alt="">']
)
def test_markdown_image_without_alt_text_fails(results, source):
    with pytest.raises(UserError, match="cell 1: an image without alt text"):
        rendered(results, [new_markdown_cell(source)])


@pytest.mark.parametrize(
    "source",
    [
        '<script src="https://example.org/x.js"></script>',
        '<link rel="stylesheet" href="//example.org/x.css">',
        '<p style="background: url(http://example.org/x.png)">x</p>',
        "<style>@import 'https://example.org/x.css';</style>",
        "![a figure](https://example.org/x.png)",
        "![a figure](missing.png)",
    ],
)
def test_whatever_a_browser_would_fetch_is_refused(results, source):
    with pytest.raises(UserError, match=r"03_train\.ipynb: <\w+> asks for"):
        rendered(results, [new_markdown_cell(source)])


def test_links_a_reader_may_follow_are_kept(results):
    page = rendered(
        results, [new_markdown_cell("# T\n\n[He et al.](https://arxiv.org/abs/1512.03385)")]
    )
    assert page.main.find("a", href="https://arxiv.org/abs/1512.03385")


def test_pages_ask_no_other_host(run):
    index.write_index()
    for page in [*run.glob("*.html"), run.parent / "index.html"]:
        text = page.read_text(encoding="utf-8")
        assert not re.search(
            r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//|import\(|(?:url\(|@import)\s*[\"']?http", text
        )


@pytest.mark.parametrize("latex", [r"\left( x", r"\unknowncommand{x}"])
def test_mathematics_that_cannot_be_converted_names_the_cell(results, latex):
    with pytest.raises(UserError, match=r"03_train\.ipynb: cell 2: mathematics '"):
        rendered(results, [new_markdown_cell("# T"), new_markdown_cell(f"So ${latex}$.")])


def test_mathematics_is_mathml(run):
    page = soup(run / "01_explore_data.html")
    assert len(page.find_all("math")) == 3
    kept = page.select_one("span.whole")  # no line begins with the comma after a formula
    assert kept.contents[0].name == "math" and kept.contents[1:] == [","]
    assert [math["display"] for math in page.find_all("math")].count("block") == 2
    for drop in page.find_all(["script", "style"]):
        drop.decompose()
    text = page.get_text()
    assert text.count("$") == 1 and "for 5$ & no more" in text  # the escaped one
    assert "(1)" not in text  # equations are not numbered


def test_operators_and_functions_are_spaced(results):
    page = rendered(
        results, [new_markdown_cell(r"# T" + "\n\n" + r"$a \sim b \pm \log p + \exp(x)$")]
    )
    operators = {operator.get_text(): operator for operator in page.find_all("mo")}
    assert {"∼", "±", "log", "exp"} <= set(operators)
    assert operators["log"]["rspace"] != "0" and operators["exp"]["rspace"] == "0"


def test_head_and_outline(run):
    page = soup(run / "01_explore_data.html")
    assert page.html["lang"] == "en"
    assert [h1.get_text() for h1 in page.find_all("h1")] == ["How good is it?"]
    assert page.title.get_text() == "quick (not CIFAR-10) · Data"
    assert page.find("meta", attrs={"name": "description"})["content"].startswith("Accuracy")
    assert page.find(class_="notice").get_text() == NOTICE
    headings = [
        (heading.get_text(), f"#{heading['id']}") for heading in page.main.find_all(["h2", "h3"])
    ]
    entries = [
        (link.get_text(), link["href"])
        for link in page.find("nav", {"aria-label": "Contents"}).find_all("a")
    ]
    assert (
        entries
        == headings
        == [("Loss", "#loss"), ("Details & such", "#details-such"), ("Loss", "#loss-2")]
    )
    assert "commit 0123456789," in page.footer.get_text()


SUBSET = "a subset of CIFAR-10: 8,000 of 50,000 training and 1,000 of 10,000 test images"


def told(results, notice, **values):
    """Return the pages of a run with this notice."""
    write(results / "quick" / "03_train.ipynb", sample())
    write(results / "quick" / "06_report.ipynb", sample())
    about = {"dataset": "cifar10-subset", "notice": notice, **values}
    (results / "quick" / "metrics.json").write_text(json.dumps(about))
    return [soup(page) for page in publish.render_run("quick")]


def test_a_rehearsal_is_said_once_and_calmly_on_every_page(results):
    metrics(results, "released/cpu", test={"accuracy": 0.9351}, train={"seconds": 1275.5})
    pages = told(results, SUBSET, test={"accuracy": 0.485})
    assert len(pages) == 3
    for page in pages:
        (box,) = page.find_all(class_="rehearsal")
        assert box.get_text() == (
            "A rehearsal: 16% of the training images, 1,000 of 10,000 test images. For the full "
            "result: make run-all RUN=cpu (93.5%, 21 minutes)."
        )
        assert box.find_previous_sibling("h1") or box.find_previous("h1")
        assert not page.select(".notice, .alarm") and SUBSET not in page.get_text()
        assert 'content: "rehearsal"' in str(page.head)
    titles = [page.title.get_text() for page in pages]
    assert titles == [f"48.5% · quick (rehearsal) · {label}" for label in LABELS]


LABELS = ("Training", "Report (code)", "Report")


def test_a_rehearsal_gives_no_result_that_is_not_here(results):
    (box,) = told(results, SUBSET)[0].find_all(class_="rehearsal")
    assert box.get_text().endswith("For the full result: make run-all RUN=cpu.")


@pytest.mark.parametrize(
    ("values", "alarm"),
    [
        ({"audit": {"best": 1}}, "audit: the test set was followed during training"),
        (
            {"train": {"stale": ["step"], "weights_sha256": 1}},
            "stale: trained by other code than is here now",
        ),
    ],
)
def test_an_alarm_is_loud_and_said_once(results, values, alarm):
    for page in told(results, SUBSET, **values):
        assert page.select_one("header .notice").get_text() == alarm
        text = re.sub(r"<style.*?</style>", "", str(page), flags=re.S)
        assert text.count(alarm) == 1 and len(page.select(".rehearsal")) == 1
        assert alarm in str(page.head)  # in the foot of each printed page


def test_a_run_on_all_of_cifar_10_has_no_notice(results):
    for page in told(results, "", test={"accuracy": 0.9}):
        assert not page.select(".notice, .rehearsal") and "(" not in page.title.get_text()[:14]


def test_what_a_head_says_is_left_to_jupyter(results):
    data = {"text/markdown": f"Run **quick** {NOTICE}", "text/plain": "x"}
    about = {"text/markdown": {"notebook_only": True}}
    heading = code("book.heading()", new_output("display_data", data=data, metadata=about))
    page = rendered(results, [new_markdown_cell("# T"), heading], notice=NOTICE)
    assert "Run quick" not in page.main.get_text() and str(page.body).count(NOTICE) == 1


def chart(narrow=True):
    """Return the output of a notebook that shows a chart, and its caption."""
    shown = []
    figure, small = (plots.figure(width, 2) for width in (8, 3.8))
    for drawn, axis in (figure, small):
        axis.plot([1, 2], [3, 4], color=plots.BLUE)
        axis.set_title(f"Loss {drawn.get_figwidth():g}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("IPython.display.display", lambda *a, **b: shown.append((a, b)))
        figures.show(
            figure[0], "loss", "Loss falls to 4", "It falls.", small[0] if narrow else None
        )
    ((data,), options) = shown[0]
    return new_output("display_data", data=data, metadata=options["metadata"])


def test_charts_are_inline_and_one_variant_is_shown(results):
    page = rendered(results, [code("a", picture()), code("b", chart()), code("c", chart(False))])
    assert [figure["id"] for figure in page.find_all("figure")] == [
        f"figure-{n}" for n in (1, 2, 3)
    ]
    captions = [caption.get_text() for caption in page.find_all("figcaption")]
    assert captions == ["Figure 1. A red dot", "Figure 2. It falls.", "Figure 3. It falls."]
    assert [caption.get("aria-hidden") for caption in page.find_all("figcaption")] == [
        "true",
        *2 * [None],
    ]
    wide, narrow, only = page.find_all("svg")
    assert [svg["class"] for svg in (wide, narrow, only)] == [
        ["chart", "wide"],
        ["chart", "narrow"],
        ["chart"],
    ]
    for svg in (wide, narrow, only):
        assert svg["role"] == "img" and svg["aria-label"] == "Loss falls to 4"
        assert not svg.get("width") and "max-width: 100%" in svg["style"] and svg["viewbox"]
    charts = "".join(map(str, (wide, narrow, only)))
    every = re.findall(r' id="([^"]+)"', charts)
    assert len(every) == len(set(every))
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', charts))
    assert used <= set(every)
    themselves = set(every) - used  # an id that nothing refers to costs bytes
    assert len(themselves) == 3 and all(name.endswith("figure_1") for name in themselves)


def test_a_shape_that_several_charts_draw_is_written_once(results):
    pages = {n: rendered(results, [code(n, chart(False)) for n in "abc"[:n]]) for n in (1, 3)}
    shapes = {n: [path["d"] for path in page.select("path[id][d]")] for n, page in pages.items()}
    assert shapes[1] and sorted(shapes[1]) == sorted(shapes[3])  # equal charts, equal letters
    drawn = [[page.find(id=use["href"][1:]).get("d") for use in svg.find_all("use")]
             for page in pages.values() for svg in page.find_all("svg")]  # fmt: skip
    assert len(drawn) == 4 and drawn[0] and all(each == drawn[0] for each in drawn)


def test_colours_of_a_chart_are_variables_with_a_value_for_the_dark_mode(results):
    svg = rendered(results, [code("b", chart(False))]).svg
    style = svg.style.extract().get_text()
    assert style.startswith("@media screen and (prefers-color-scheme: dark) { main .chart {")
    assert not re.search(r"#[0-9a-f]{6}", re.sub(r"var\(--fig-(\w{6}), #\1\)", "", str(svg)))
    used = set(re.findall(r"var\(--fig-([0-9a-f]{6})", str(svg)))
    assert {"000000", "0072b2"} <= used
    assert used == set(re.findall(r"--fig-([0-9a-f]{6}):", style))
    assert "fill: #ffffff" not in str(svg) and "var(--fig-ground, #fff)" in svg["style"]


def test_a_chart_with_pixels_keeps_its_colours():
    figure, axis = plots.figure(4, 2)
    axis.imshow([[0, 1]])
    text = figures.svg(figure, "Two", "two")
    assert "<style" not in text and "var(--fig-0" not in text and "fill: #000000;" in text
    assert BeautifulSoup(text, "html.parser").svg["class"] == ["chart", "fixed"]


def luminance(colour):
    """Return the relative luminance of "#rrggbb" (WCAG 2.2)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    """Return the contrast of two colours, 1 to 21 (WCAG 2.2)."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_colours_of_the_dark_mode_are_legible():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    paper = figures.dark("#ffffff")
    for colour in (plots.BLUE, plots.ORANGE, plots.GREEN, plots.RED, plots.GREY, "#000000"):
        assert contrast(figures.dark(colour.lower()), paper) >= 4.5
    # Pale fills stay pale on the dark ground: what is written on them in black is legible.
    for fill in ("#dbe9f6", "#bcd7ee", "#f0f0f0"):
        assert contrast(figures.dark(fill), figures.dark("#000000")) >= 7
    assert figures.dark("#dbe9f6") != figures.dark("#f0e9db")


def photograph():
    about = {"alt": "Ten cats", "caption": "", "photographs": True}
    return new_output("display_data", data={"image/png": PIXEL}, metadata={"image/png": about})


def test_images_of_the_dataset_are_left_out_where_asked(results):
    html = '<div><p data-photographs="">secret</p><table><tr><td>1</td></tr></table></div>'
    cells = [
        code("a", chart(False)),
        code("b", photograph()),
        code("c", photograph(), picture()),
        code("d", new_output("display_data", data={"text/html": html})),
    ]
    page = rendered(results, cells, photographs=False)
    assert page.get_text().count("Images of the dataset are left out") == 1
    assert [c.get_text()[:9] for c in page.find_all("figcaption")] == ["Figure 1.", "Figure 2."]
    assert "Ten cats" not in str(page) and "secret" not in str(page) and page.td.get_text() == "1"
    page = rendered(results, cells)
    assert len(page.find_all("figure")) == 4 and "secret" in str(page)
    assert "left out" not in page.get_text()


def test_a_second_h1_is_demoted_and_a_missing_one_made(results):
    page = rendered(results, [new_markdown_cell("# One"), new_markdown_cell("# Two")])
    assert [h1.get_text() for h1 in page.find_all("h1")] == ["One"]
    assert page.h2.get_text() == "Two"
    assert rendered(results, [new_markdown_cell("text")]).h1.get_text() == "Train"


def test_code_is_folded_and_only_injected_parameters_are_shown(run):
    page = soup(run / "01_explore_data.html")
    folds = [fold.summary.get_text() for fold in page.find_all("details", class_="code")]
    calls = ["Code", "Code: noise", "Code", "Code: show"]
    assert folds == ["Parameters of this run", *calls]
    assert not any(cell.has_attr("open") for cell in page.find_all("details", class_="code"))
    # Shown by the script that makes it work.
    assert page.find("button", class_="unfold").has_attr("hidden")
    parameters = page.find(class_="parameters").get_text()
    assert "Parameters of this run" in parameters and "epochs = 77" in parameters
    assert "epochs = 1\n" not in page.get_text() and "secret_setup" not in page.get_text()
    assert "a warning" in page.find(class_="stderr").get_text()
    assert page.img["alt"] == "A red dot" and page.img["src"].startswith("data:image/png;base64,")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("# Count them by class.\nx = f(1)", "Count them by class"),
        ("import math\n\nfrom lib import data", "imports"),
        ("figure = plots.class_balance(counts)\nbook.figure(figure)", "class balance"),
        ("frame", ""),
        ("print(len(x))", ""),
        ("book.table(pd.DataFrame(layer_table(net)))", "layer table"),
        ("book.table(pd.DataFrame(a))", "table"),
        ("book.table(book.recipe())", "recipe"),
        ("book.metrics(pairs=counts.tolist(), best=dict.fromkeys(names))", "metrics"),
        ("%matplotlib inline", ""),
    ],
)
def test_a_fold_says_what_its_code_does(source, told):
    assert convert.what(source) == told


def test_set_up_stands_folded_at_the_end(results):
    about = "**Reads** `a.npz`. **Writes** `b.json`."
    cells = [
        new_markdown_cell(f"# Title\n\nWhat is asked.\n\n{about}"),
        code("import math"),
        code("epochs = 1", tags=["parameters"]),
        code("book = 1\nbook.heading()"),
        new_markdown_cell("Every parameter:"),
        code("book.parameters()", new_output("stream", name="stdout", text="all of them")),
        code("book.show()", new_output("stream", name="stdout", text="the headline")),
        new_markdown_cell("## First\n\n**Reads** are counted."),
        code("later()"),
    ]
    page = rendered(results, cells)
    about = page.select_one("main > details.about")
    assert not about.has_attr("open") and about.find_next_sibling() is None
    told = about.extract().get_text()
    for moved in ("a.npz", "import math", "epochs = 1", "Every parameter", "all of them"):
        assert moved in told and moved not in page.get_text()
    assert "files, parameters and set-up" in told
    for kept in ("What is asked.", "the headline", "are counted", "later()"):
        assert kept in page.main.get_text() and kept not in told


def test_citations_lead_to_numbered_references(results):
    text = """# T

Known [1], and [1, 2]; in [0, 1], `x[1]`, [3], [a link](#x) and $x[1]$.

## References

- First, with *title*
- Second
"""
    page = rendered(results, [new_markdown_cell(text)])
    (entries,) = page.find_all("ol", class_="references")
    assert [entry["id"] for entry in entries.find_all("li")] == ["ref-1", "ref-2"]
    links = [(link.get_text(), link["href"]) for link in page.find_all("a", class_="cite")]
    assert links == [("1", "#ref-1"), ("1", "#ref-1"), ("2", "#ref-2")]
    assert "Known [1], and [1, 2]; in [0, 1], x[1], [3]," in page.main.get_text()
    page = rendered(results, [new_markdown_cell("# T\n\nA list [1].\n\n- an item")])
    assert not page.select(".cite, .references") and "list [1]." in page.main.get_text()


def test_report_has_no_code(run):
    page = soup(run / "report.html")
    text = page.get_text()
    assert page.find("details", class_="code") is None and page.find(class_="parameters") is None
    for gone in ("epochs", "print", "plots.show", "In [", "Out[", "secret_setup"):
        assert gone not in page.main.get_text()
    assert "hello from stdout" in text and "0.875" in text and page.img


def test_tables_are_aligned_and_their_headers_have_a_scope(run):
    page = soup(run / "01_explore_data.html")
    table = page.find("table", class_="dataframe")
    assert not table.has_attr("border") and table.find_parent(class_="scroll")
    assert [cell.get_text() for cell in table.find_all(class_="number")] == [
        "recall",
        "0.875",
        "−1,024",
    ]
    assert [cell.get_text() for cell in table.thead.find_all("th")] == ["class", "recall", "pair"]
    assert table.tbody.th["scope"] == "row" and table.thead.th["scope"] == "col"


def test_pages_of_a_run_are_linked(run):
    (run.parent / "claims.html").write_text("<p>x")
    index.write_index()
    publish.render_run("quick")
    page = soup(run / "04_predict_tta.html")
    above = [(link.get_text(), link["href"]) for link in page.select("header .bundle a")]
    home = (index.BUNDLE, "../index.html")
    assert above == [home, ("All runs", "../index.html"), ("Fact check", "../claims.html")]
    assert all((run / link).is_file() for _, link in above)
    links = page.find("nav", {"aria-label": "Pages of this run"}).find_all("a")
    assert [link.get_text() for link in links] == ["Report", "Data", "Prediction", "Report (code)"]
    assert all((run / link["href"]).is_file() for link in links)
    assert [link["href"] for link in links if link.get("aria-current")] == ["04_predict_tta.html"]
    assert page.find("a", rel="prev")["href"] == "01_explore_data.html"
    assert page.find("a", rel="next")["href"] == "06_report.html"
    assert page.main.find("a", string="the test set")["href"] == "05_confusion.html"


def test_unchanged_pages_are_not_written_again(run):
    before = {page: page.stat().st_mtime_ns for page in publish.render_run("quick")}
    assert len(before) == 4
    write(run / "04_predict_tta.ipynb", [*sample(), code("more()")])
    (run / "06_report.failed.ipynb").write_text("{}")
    after = {page: page.stat().st_mtime_ns for page in publish.render_run("quick")}
    assert [page.name for page in before if after[page] != before[page]] == ["04_predict_tta.html"]
    (run / "metrics.json").unlink()
    assert all(page.stat().st_mtime_ns != after[page] for page in publish.render_run("quick"))
    assert not list(run.glob("*.part")) and [path.name for path in run.glob(".*")] == [".lock"]


def test_a_run_without_notebooks_is_one_line(results):
    with pytest.raises(
        UserError, match="no executed notebook; `make run-all RUN=quick` makes them"
    ):
        publish.render_run("quick")
    broken = results / "quick" / "03_train.ipynb"
    broken.parent.mkdir()
    broken.write_text("{")
    with pytest.raises(UserError, match="not a readable notebook"):
        publish.render_run("quick")


def metrics(results, run, text=None, **values):
    (results / run).mkdir(parents=True)
    (results / run / "metrics.json").write_text(text or json.dumps(values))


def index_rows(page):
    """Return the rows of the runs, each the texts of its cells."""
    rows = page.select("tbody tr:not(.group)")
    return [[cell.get_text(" ").strip() for cell in row.find_all(["th", "td"])] for row in rows]


def test_index_is_sorted_and_survives_what_is_missing(results):
    test = {"accuracy": 0.9512, "low": 0.9467, "high": 0.9553, "tta_accuracy": 0.9555}
    machine = {"device": "cpu", "threads": 2, "precision": "bf16"}
    about = {"parameters": 4754218, "test": test, "train": {"seconds": 3725}}
    metrics(results, "cpu", dataset="cifar10", environment=machine, **about)
    metrics(results, "best", dataset="cifar10", test={"accuracy": 0.9693})
    metrics(results, "begun", dataset="cifar10", test=None, train=3, parameters="many")
    metrics(results, "smoke", dataset="digits", test={"accuracy": 0.99}, notice=NOTICE)
    metrics(results, "<odd>", dataset=["?"], test={"accuracy": float("nan")})
    metrics(results, "broken", text="{")
    (results / "empty").mkdir()
    page = soup(index.write_index())
    rows = index_rows(page)
    assert [row[0].split()[0] for row in rows] == ["best", "cpu", "begun", "smoke", "<odd>"]
    training = "62 min CPU, 2 threads, bf16"
    assert rows[1][1:] == ["95.12% 94.67 to 95.53%", "", "95.55%", training, "–"]
    assert rows[2][1:] == ["– –", "", "–", "–", "–"]
    assert rows[3][0] == "smoke not CIFAR-10"
    assert "4.75 million parameters" in page.select(".recipe")[0].get_text()
    assert "cannot be read: broken." in page.get_text() and "empty" not in page.get_text()
    assert len(page.find_all("h1")) == 1


def test_index_puts_the_seeds_of_a_recipe_together(results):
    settings = {"blocks": [4, 4, 4, 3], "block": "basic", "optimiser": "sgd", "cutmix": 0.5}
    values = {"cpu": (42, 0.93), "cpu-seed3": (3, 0.95), "wide": (42, 0.94)}
    for run, (seed, accuracy) in values.items():
        own = settings | {"seed": seed} | ({"blocks": [1]} if run == "wide" else {})
        test, train = {"accuracy": accuracy}, {"epochs": 10}
        metrics(results, run, dataset="cifar10", seed=seed, settings=own, test=test, train=train)
    page = soup(index.write_index())
    assert [row[0] for row in index_rows(page)] == ["cpu-seed3", "cpu", "wide"]
    assert [line.get_text().strip() for line in page.select(".recipe")] == [
        "4-4-4-3 basic blocks; SGD, 10 epochs, CutMix; mean of 2 seeds 94.00%, standard deviation "
        "1.41 points",
        "1 basic blocks; SGD, 10 epochs, CutMix",
    ]


def test_index_draws_accuracies_on_an_axis_with_the_reference(results):
    test = {"accuracy": 0.93, "low": 0.92, "high": 0.94}
    metrics(results, "cpu", dataset="cifar10", test=test)
    metrics(results, "smoke", dataset="digits", test=test)
    page = soup(index.write_index())
    ticks = [line.get_text(" ").split() for line in page.select(".dataset .ticks")]
    assert ticks == [["92", "93", "94", "95"], ["92", "92.5", "93", "93.5", "94"]]
    cifar, digits = page.select("svg.strip")
    assert cifar.circle["cx"] == "33.33%" and digits.circle["cx"] == "50.00%"
    interval = cifar.find("line", class_="interval")
    assert (interval["x1"], interval["x2"]) == ("0.00%", "66.67%")
    assert cifar.find("line", class_="reference")["x1"] == "88.33%"  # 94.65%
    assert digits.find("line", class_="reference") is None
    assert cifar["aria-label"] == "93.00%, interval 92.00 to 94.00%; the reference 94.65%"


def test_index_links_to_report_and_pages(run):
    page = soup(index.write_index())
    links = [link["href"] for link in page.table.find_all("a")]
    assert links[0] == "quick/report.html" and "quick/04_predict_tta.html" in links
    assert all((run.parent / link).is_file() for link in links)


def test_pages_of_a_run_come_with_the_index(run, capsys):
    assert main(["pages", "quick"]) == 0
    assert capsys.readouterr().out.strip().endswith("quick/report.html")
    links = [link["href"] for link in soup(run.parent / "index.html").find_all("a")]
    assert "quick/report.html" in links


def test_index_links_to_claims_and_studies(run):
    results = run.parent
    for page in ("claims.html", "studies/small/study.html", "studies/old/study.html"):
        (results / page).parent.mkdir(parents=True, exist_ok=True)
        (results / page).write_text("<p>x")
    plan = {"plan": {"title": "What it needs"}}
    (results / "studies/small/study.json").write_text(json.dumps(plan))
    links = {link["href"]: link.get_text() for link in soup(index.write_index()).find_all("a")}
    assert links["claims.html"] == "Fact check of the reference report"
    assert links["studies/small/study.html"] == "Study: What it needs"
    assert links["studies/old/study.html"] == "Study: old"


def test_index_shows_a_released_run_where_it_was_not_done_here(results):
    for folder in ("released/cpu", "released/best", "best"):
        metrics(results, folder, dataset="cifar10", test={"accuracy": 0.9})
        (results / folder / "report.html").write_text("<p>x")
    rows = soup(index.write_index()).select("tbody tr:not(.group)")
    assert [row.th.get_text(" ").split() for row in rows] == [["best"], ["cpu", "released"]]
    assert [row.a["href"] for row in rows] == ["best/report.html", "released/cpu/report.html"]


def test_index_without_runs(results):
    assert "No run has recorded" in soup(index.write_index()).get_text()


def test_pdf_says_what_is_missing(results, monkeypatch):
    with pytest.raises(UserError, match=r"report\.html: not rendered yet"):
        publish.print_pdf("quick")
    (results / "quick").mkdir()
    (results / "quick" / "report.html").write_text("<p>x")
    monkeypatch.setattr(publish, "find_chromium", lambda: None)
    with pytest.raises(UserError, match="no Chromium or Chrome found"):
        publish.print_pdf("quick")
    monkeypatch.setattr(publish, "find_chromium", lambda: sys.executable)
    with pytest.raises(UserError, match="failed"):
        publish.print_pdf("quick")


needs_chromium = pytest.mark.skipif(
    publish.find_chromium() is None, reason="no Chromium or Chrome found"
)


def browse(tmp_path, page, *options):
    """Open `page` headless and return its document after scripts ran."""
    command = publish.chromium_command(
        publish.find_chromium(), str(tmp_path / "profile"), *options, "--dump-dom"
    )
    done = subprocess.run(
        [*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return BeautifulSoup(done.stdout, "html.parser")


def requests(tmp_path, page):
    """Return the addresses that the page, not the browser around it, asked other hosts for."""
    log = tmp_path / "net.json"
    browse(tmp_path, page, f"--log-net-log={log}")
    events = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    asked = [
        event for event in events if event.get("initiator", "not an origin") != "not an origin"
    ]
    return {
        event["url"] for event in asked if not re.match(r"file:|data:", event.get("url", "file:"))
    }


@pytest.mark.chromium
@needs_chromium
def test_net_log_has_no_request(run, tmp_path):
    control = tmp_path / "control.html"
    control.write_text('<img src="http://example.invalid/x.png">')
    assert requests(tmp_path, control) == {"http://example.invalid/x.png"}
    index.write_index()
    for page in (run / "04_predict_tta.html", run / "report.html", run.parent / "index.html"):
        assert requests(tmp_path, page) == set()


@pytest.mark.chromium
@needs_chromium
def test_no_horizontal_overflow_on_a_phone(results, tmp_path):
    wide = "<table><tr>" + "<td>a wide cell of a table</td>" * 30 + "</tr></table>"
    cells = [
        *sample(),
        code(
            "x = " + "1 + " * 99 + "1", new_output("stream", name="stdout", text="long line " * 60)
        ),
        code("wide", new_output("display_data", data={"text/html": wide})),
        new_markdown_cell(
            "`" + "averylongname" * 20 + "`\n\n$$" + " + ".join(["x_{1}"] * 60) + "$$"
        ),
    ]
    rendered(
        results, cells, notice=NOTICE, navigation=[(f"{n} A label", f"{n}.html") for n in range(9)]
    )
    metrics(results, "smoke", dataset="digits", parameters=1, notice=NOTICE)
    for page in (results / "quick" / "03_train.html", index.write_index()):
        text = html.escape(page.read_text(encoding="utf-8").replace("<details", "<details open"))
        # A frame, because a browser's window is never as narrow as a phone.
        frame = tmp_path / "frame.html"
        frame.write_text(
            '<iframe width=400 height=800 style="border:0" '
            f'srcdoc="{text}"></iframe><p></p><script>'
            "onload = () => { document.querySelector('p').textContent = ((page) => "
            "page.scrollWidth - page.clientWidth)(frames[0].document.documentElement); };</script>"
        )
        assert browse(tmp_path, frame).p.get_text() == "0"


@pytest.mark.chromium
@needs_chromium
def test_one_variant_of_a_chart_is_shown_by_the_width_of_the_screen(results, tmp_path):
    rendered(results, [code("b", chart()), code("c", chart(False))])
    text = html.escape((results / "quick" / "03_train.html").read_text(encoding="utf-8"))
    page = tmp_path / "frames.html"
    page.write_text(
        "".join(f'<iframe width={width} srcdoc="{text}"></iframe>' for width in (400, 1280))
        + "<p></p><script>onload = () => { document.querySelector('p').textContent ="
        "Array.from(frames)"
        ".map((page) => [...page.document.querySelectorAll('svg.chart')].map((svg) =>"
        "page.getComputedStyle(svg).display).join()).join(' '); };</script>"
    )
    assert browse(tmp_path, page).p.get_text() == "none,block,block block,none,block"


@pytest.mark.chromium
@needs_chromium
def test_script_shows_the_button_that_unfolds_all_code(run, tmp_path):
    button = browse(tmp_path, run / "01_explore_data.html").find("button", class_="unfold")
    assert not button.has_attr("hidden")


@pytest.mark.chromium
@needs_chromium
def test_pdf_is_printed(run):
    pdf = publish.print_pdf("quick")
    assert pdf == run / "report.pdf" and pdf.read_bytes().startswith(b"%PDF")
