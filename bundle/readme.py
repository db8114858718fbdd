"""Write the tables of README.md and docs/ from the runs here: ``python -m bundle readme RUN ...``.

The results of the runs named, the ingredients that released studies tried, and all runs on all of
CIFAR-10 compared with what others report, with their figure.
"""

import os
from html import escape
from pathlib import Path

from bundle import paths
from bundle.files import read_json, write_atomically
from bundle.report import anchors, anchors_plot
from bundle.runs import params
from bundle.runs import results as runs_results
from bundle.study.sentences import notice_of
from bundle.words import clock, markdown, p_is, points
from lib.errors import UserError

# Each generated section: the page it stands in, and the command that writes it (named in its mark).
SECTIONS = {
    "results": ("README.md", "make readme"),
    "ingredients": ("docs/study.md", "make readme"),
    "anchors": ("docs/comparison.md", "make readme"),
    "cluster": ("docs/cluster.md", "python -m benchmarks.cluster"),
    "benchmarks": ("docs/speed.md", "make bench-readme"),
}
FIGURE = "docs/anchors"
COLUMNS = (
    "run",
    "data",
    "parameters",
    "test accuracy (95% interval)",
    "with averaged views",
    "training",
    "on",
)


def row(run: str) -> list[str]:
    """Return a run's cells of the table, or its release's; UserError where there is neither."""
    metrics = runs_results.read_metrics(run) or runs_results.read_metrics(f"released/{run}")
    if "test" not in metrics:
        raise UserError(
            f"results/{run}/metrics.json: no test accuracy there; run make run-all RUN={run} first"
        )
    test, train, machine = metrics["test"], metrics["train"], metrics["environment"]
    device = "CPU" if machine["device"] == "cpu" else machine["device_name"]
    return [
        f"`{run}`{' (audit)' * bool(metrics.get('audit'))}{' (stale)' * bool(train['stale'])}",
        metrics["notice"] or "CIFAR-10",
        f"{metrics['parameters']:,}",
        f"{test['accuracy']:.2%} ({test['low']:.2%} to {test['high']:.2%})",
        f"{test['tta_accuracy']:.2%}" if runs_results.averages_views(metrics) else "none chosen",
        f"{train['epochs']} epochs, {clock(train['seconds'])}",
        f"{device}, {machine['threads']} threads, {machine['precision']}",
    ]


def marks(section: str) -> tuple[str, str]:
    """Return the two comments between which a section of SECTIONS stands in its page."""
    return f"<!-- {section}: begin ({SECTIONS[section][1]}) -->", f"<!-- {section}: end -->"


def link(section: str, path: str) -> str:
    """Return `path`, relative to the bundle, as a link from the page of a section."""
    return Path(os.path.relpath(path, Path(SECTIONS[section][0]).parent)).as_posix()


def read(section: str) -> str:
    """Return what stands between the marks of a section now; UserError without them."""
    return _split(section)[1].strip("\n")


def put(text: str, section: str) -> None:
    """Replace what stands between a section's marks in its page; UserError without them."""
    before, _old, after = _split(section)
    write_atomically(paths.ROOT / SECTIONS[section][0], f"{before}\n{text}\n{after}".encode())


def _split(section: str) -> tuple[str, str, str]:
    """Return the section's page in three: up to the first mark, between, from the last mark on."""
    name, (begin, end) = SECTIONS[section][0], marks(section)
    before, _, rest = (paths.ROOT / name).read_text(encoding="utf-8").partition(begin)
    old, found, after = rest.partition(end)
    if not found:
        raise UserError(
            f"{name}: the marks '{begin}' and '{end}' are missing; put them back around the table"
        )
    return before + begin, old, end + after


def table(runs: list[str]) -> str:
    """Return the Markdown table of these runs, the reference's reported figures first."""
    reference = runs_results.reference()
    first = [
        "*the reference, as reported*",
        "CIFAR-10",
        f"{reference['parameters']:,}",
        f"{reference['test_accuracy']:.2%}",
        "not stated",
        "200 epochs",
        "",
    ]
    return markdown([COLUMNS, first, *map(row, runs)])


def ingredients() -> str:
    """Return a table for each released study that served a choice: the changes, what they did."""
    parts = []
    for path in sorted((paths.RESULTS / "released" / "studies").glob("*/study.json")):
        study = read_json(path)
        if study["plan"].get("judged_on") != "holdout":
            continue
        rows = [
            [
                _change(row),
                f"{row['accuracy']:.2%} ({row['low']:.2%} to {row['high']:.2%})",
                _against(row),
            ]
            for row in sorted(
                study["summary"], key=lambda row: (bool(row["base"]), row["difference"] or 0.0)
            )
        ]
        page = link("ingredients", f"{path.parent.relative_to(paths.ROOT).as_posix()}/study.html")
        plan = study["plan"]
        told = f"**{plan['title']}** ([page]({page}); {notice_of(plan, study['jobs'])})"
        parts += [
            told,
            markdown(
                [["change", "hold-out accuracy (95% interval)", "points (95% interval, p)"], *rows]
            ),
        ]
    return "\n\n".join(parts)


def _change(row: dict) -> str:
    """Return what an ablation changes, in the words of its parameter file."""
    if not row["base"]:
        return f"**`{row['run']}`**"
    return f"`{row['run']}`: {params.purpose(row['run']).removeprefix(row['base'] + ' ')}"


def _against(row: dict) -> str:
    if row["difference"] is None:
        return ""
    told = (
        [] if row.get("least") is None else [f"{points(row['least'])} to {points(row['most'])}"]
    )  # older pages: none
    told += [] if row["p"] is None else [p_is(row["p"])]
    return points(row["difference"]) + (f" ({', '.join(told)})" if told else "")


def beside() -> str:
    """Draw the figure of the bundle's runs and others'; return it, table and note as Markdown."""
    results = anchors.ours(anchors.runs()) + anchors.others()
    anchors_plot.save(results, paths.ROOT / FIGURE)
    found = anchors.table(results)
    found["network"] = [one.name if one.source else f"**`{one.name}`**" for one in results]
    figure = link("anchors", FIGURE)
    picture = (
        f'<picture><source media="(max-width: 760px)" srcset="{figure}-narrow.svg">'
        f'<img src="{figure}.svg" alt="{escape(anchors_plot.alt(results))}"></picture>'
    )
    return "\n\n".join(
        (markdown([list(found), *found.values.tolist()]), anchors.note(results), picture)
    )


def write(runs: list[str]) -> None:
    """Write the three sections that ``make readme`` writes, with these runs in the first."""
    put(table(runs), "results")
    put(ingredients(), "ingredients")
    put(beside(), "anchors")
