"""Write README.md's tables from the runs' metrics: ``python -m lib.readme RUN [RUN ...]``.

The results of the runs named, the ingredients that released studies tried, and all runs on the
whole of CIFAR-10 beside what others report, with their figure.
"""

import argparse
from collections.abc import Sequence
from html import escape

from lib import anchors, anchors_plot, params, paths, record
from lib.effect import in_words
from lib.errors import UserError, exit_on_user_error
from lib.progress import clock
from lib.state import read_json, write_atomically
from lib.study_words import notice_of, points

BEGIN, END = "<!-- results: begin (make readme) -->", "<!-- results: end -->"
BESIDE_BEGIN, BESIDE_END = "<!-- anchors: begin (make readme) -->", "<!-- anchors: end -->"
TRIED_BEGIN, TRIED_END = "<!-- ingredients: begin (make readme) -->", "<!-- ingredients: end -->"
FIGURE = "docs/anchors"
# fmt: off
COLUMNS = (
    "run", "data", "parameters", "test accuracy (95% interval)", "with averaged views", "training",
    "on",
)
# fmt: on


def row(run: str) -> list[str]:
    """Return a run's table cells, or its release's if not done here; UserError without either."""
    released = paths.RESULTS / "released" / run / "metrics.json"
    metrics = record.read_metrics(run) or read_json(released)
    if "test" not in metrics:
        raise UserError(
            f"results/{run}/metrics.json: no test accuracy there; run make run-all RUN={run} first"
        )
    test, train, machine = metrics["test"], metrics["train"], metrics["environment"]
    device = "CPU" if machine["device"] == "cpu" else machine["device_name"]
    return [
        f"`{run}`{' (audit)' if metrics.get('audit') else ''}",
        metrics["notice"] or "CIFAR-10",
        f"{metrics['parameters']:,}",
        f"{test['accuracy']:.2%} ({test['low']:.2%} to {test['high']:.2%})",
        f"{test['tta_accuracy']:.2%}" if record.averages_views(metrics) else "none chosen",
        f"{train['epochs']} epochs, {clock(train['seconds'])}",
        f"{device}, {machine['threads']} threads, {machine['precision']}",
    ]


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as a Markdown table, the first its heading."""
    heading, *body = lines
    return "\n".join(f"| {' | '.join(line)} |" for line in (heading, ["---"] * len(heading), *body))


def put(text: str, begin: str, end: str) -> None:
    """Replace what stands between two marks in README.md; UserError where they are missing."""
    readme = paths.ROOT / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(begin)
    _old, found, after = rest.partition(end)
    if not found:
        raise UserError(
            f"README.md: the marks '{begin}' and '{end}' are missing; put them back around the "
            "table"
        )
    write_atomically(readme, f"{before}{begin}\n{text}\n{end}{after}".encode())


def table(runs: list[str]) -> str:
    """Return the Markdown table of these runs, the reference's reported figures as first row."""
    reference = record.reference()
    first = ["*the reference, as reported*", "CIFAR-10", f"{reference['parameters']:,}"]
    first += [f"{reference['test_accuracy']:.2%}", "not stated", "200 epochs", ""]
    return markdown([COLUMNS, first, *map(row, runs)])


def ingredients() -> str:
    """Return a table for each released study that served a choice: the changes and their effect."""
    parts = []
    for path in sorted((paths.RESULTS / "released" / "studies").glob("*/study.json")):
        study = read_json(path)
        if study["plan"].get("judged_on") != "holdout":
            continue
        rows = [["change", "hold-out accuracy (95% interval)", "points (95% interval, p)"]]
        study["summary"].sort(key=lambda row: (bool(row["base"]), row["difference"] or 0.0))
        for row in study["summary"]:
            score = f"{row['accuracy']:.2%} ({row['low']:.2%} to {row['high']:.2%})"
            rows.append([_change(row), score, _against(row)])
        folder = path.parent.relative_to(paths.ROOT)
        notice = notice_of(study["plan"], study["jobs"])
        told = f"**{study['plan']['title']}** ([page]({folder}/study.html); {notice})"
        parts += [told, markdown(rows)]
    return "\n\n".join(parts)


def _change(row: dict) -> str:
    """Return what an ablation changes, in the words of its parameter file."""
    if not row["base"]:
        return f"**`{row['run']}`**"
    return f"`{row['run']}`: {params.purpose(row['run']).removeprefix(row['base'] + ' ')}"


def _against(row: dict) -> str:
    if row["difference"] is None:
        return ""
    # Older pages: none.
    told = [] if row.get("least") is None else [f"{points(row['least'])} to {points(row['most'])}"]
    told += [] if row["p"] is None else [in_words(row["p"])]
    return points(row["difference"]) + (f" ({', '.join(told)})" if told else "")


def beside() -> str:
    """Draw the figure of our runs beside others' and return it, table and note as Markdown."""
    results = anchors.ours(anchors.runs()) + anchors.others()
    anchors_plot.save(results, paths.ROOT / FIGURE)
    found = anchors.table(results)
    found["network"] = [one.name if one.source else f"**`{one.name}`**" for one in results]
    picture = (
        f'<picture><source media="(max-width: 760px)" srcset="{FIGURE}-narrow.svg">'
        f'<img src="{FIGURE}.svg" alt="{escape(anchors_plot.alt(results))}"></picture>'
    )
    return "\n\n".join(
        (markdown([list(found), *found.values.tolist()]), anchors.note(results), picture)
    )


def main(arguments: list[str] | None = None) -> int:
    """Replace what stands between the marks in README.md."""
    parser = argparse.ArgumentParser(prog="python -m lib.readme", description=__doc__)
    parser.add_argument("runs", nargs="+")
    put(table(parser.parse_args(arguments).runs), BEGIN, END)
    put(ingredients(), TRIED_BEGIN, TRIED_END)
    put(beside(), BESIDE_BEGIN, BESIDE_END)
    return 0


if __name__ == "__main__":
    exit_on_user_error(main)
