"""Write the tables of README.md and docs/ from the runs here: ``python -m bundle readme RUN ...``.

The results of the runs named, the ingredients that released studies tried, and all runs on all of
CIFAR-10 compared with what others report, with their figure.
"""

import os
import re
from html import escape
from pathlib import Path

from bundle import paths, words
from bundle.checks import Parameter, described
from bundle.claims import judge
from bundle.claims import page as claims
from bundle.files import read_json, write_atomically
from bundle.pages.parameters import shown
from bundle.report import anchors, anchors_plot
from bundle.runs import params, results
from bundle.study import compare
from bundle.study.sentences import notice_of, so_far
from lib.errors import UserError
from lib.settings import SECTIONS as SETTINGS

# Each generated section: the page it stands in, and the command that writes it (named in its mark).
SECTIONS = {
    "headline": ("README.md", "make readme"),
    "results": ("README.md", "make readme"),
    "comparison": ("README.md", "make readme"),
    "colab": ("README.md", "make readme"),
    "reproduction": ("docs/study.md", "make readme"),
    "ingredients": ("docs/study.md", "make readme"),
    "anchors": ("docs/comparison.md", "make readme"),
    "claims": ("docs/claims.md", "make readme"),
    "parameters": ("docs/parameters.md", "make readme"),
    "cluster": ("docs/cluster.md", "python -m benchmarks.cluster"),
    "benchmarks": ("docs/speed.md", "make bench-readme"),
}
FIGURE = "docs/anchors"
COLUMNS = ["run", "parameters", "test accuracy (95% interval)", "with averaged views"]
COLUMNS += ["training", "on", "read"]
READ = {"report": "report.pdf", "model card": "model_card.md"}  # what GitHub shows of a release


def row(run: str) -> list[str]:
    """Return a run's cells of the table, or its release's; UserError where there is neither."""
    metrics = results.read_metrics(run) or results.read_metrics(f"released/{run}")
    if "test" not in metrics:
        raise UserError(
            f"results/{run}/metrics.json: no test accuracy there; run make run-all RUN={run} first"
        )
    test, train = metrics["test"], metrics["train"]
    averages = results.averages_views(metrics)
    signs = " (audit)" * bool(metrics.get("audit")) + " (stale)" * bool(train["stale"])
    return [
        f"`{run}`{signs}" + (f": {metrics['notice']}" if metrics["notice"] else ""),
        f"{metrics['parameters']:,}",
        words.accuracy(test),
        words.percent(test["tta_accuracy"]) if averages else "none chosen",
        f"{train['epochs']} epochs, {_minutes(train['seconds'])}",
        words.machine_in_short(metrics["environment"]),
        released_pages(run),
    ]


def released_pages(run: str) -> str:
    """Return links to what GitHub can show of a release, of those files that are there."""
    folder = paths.RESULTS / "released" / run
    there = {name: folder / file for name, file in READ.items() if (folder / file).is_file()}
    address = {name: path.relative_to(paths.ROOT).as_posix() for name, path in there.items()}
    return ", ".join(f"[{name}]({link('results', path)})" for name, path in address.items())


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
    old, is_closed, after = rest.partition(end)
    if not is_closed:
        raise UserError(
            f"{name}: the marks '{begin}' and '{end}' are missing; put them back around the table"
        )
    return before + begin, old, end + after


def colab() -> str:
    """Return the badge that opens the notebook in Colab, a link where the code has no address.

    The address on GitHub is that of CITATION.cff, `repository-code`.
    """
    file = "notebooks/colab.ipynb"
    text = (paths.ROOT / "CITATION.cff").read_text(encoding="utf-8")
    github = re.search(r"^repository-code: *.?https://github\.com/([\w.-]+/[\w.-]+)", text, re.M)
    if not github:
        return f"[`{file}`]({file}) runs it on Colab or Kaggle, without an installation."
    site = "https://colab.research.google.com"
    opens = f"{site}/github/{github[1].removesuffix('.git')}/blob/main/{file}"
    return f"[![Open in Colab]({site}/assets/colab-badge.svg)]({opens})"


def table(runs: list[str]) -> str:
    """Return the Markdown table of these runs, the reference's reported figures first."""
    reported = results.reference()
    size, accuracy = f"{reported['parameters']:,}", words.percent(reported["test_accuracy"])
    first = ["*the reference, as reported*", size, accuracy, "not measured", "200 epochs", "", ""]
    return words.markdown([COLUMNS, first, *map(row, runs)])


def ingredients() -> str:
    """Return a table for each released study that served a choice: the changes, what they did."""
    pages = sorted((paths.RESULTS / "released" / "studies").glob("*/study.json"))
    studies = [(page.with_name("study.html"), read_json(page)) for page in pages]
    return "\n\n".join(
        _choice(page, study)
        for page, study in studies
        if study["plan"].get("judged_on") == "holdout"
    )


def reproduction() -> str:
    """Return the table of the full study as released, and how far its unfinished trainings are."""
    page = paths.RESULTS / "released" / "studies" / "full" / "study.html"
    study = read_json(page.with_name("study.json"))
    if not study.get("jobs"):
        return "*No training of the study `full` is released yet.*"
    parts = [_choice(page, study)]
    for job in study.get("unfinished", ()):
        machine = words.device(job["environment"])
        parts.append(f"`{job['run']}` ({machine}) has {so_far(job)}.")
    if (curves := page.with_name("study_epochs.svg")).is_file():
        told = "Test accuracy after each epoch: audit over what the reference's notebook printed"
        address = link("reproduction", curves.relative_to(paths.ROOT).as_posix())
        parts.append(f"![{told}]({address})")
    return "\n\n".join(parts)


def _choice(page: Path, study: dict) -> str:
    """Return a study's heading and table, the base first, then from the worst change on."""
    plan, address = study["plan"], link("ingredients", page.relative_to(paths.ROOT).as_posix())
    notice = notice_of(plan, study["jobs"])
    rows = sorted(
        _corrected(study["summary"]), key=lambda row: (bool(row["base"]), row["difference"] or 0.0)
    )
    images = "hold-out" if plan.get("judged_on") == "holdout" else "test"
    heading = ["change", f"{images} accuracy (95% interval)", "points (95% interval, p by Holm)"]
    body = [[_change(row), words.accuracy(row), _against(row, rows[0]["run"])] for row in rows]
    told = f"[page]({address})" + f"; {notice}" * bool(notice)
    return f"**{plan['title']}** ({told})\n\n" + words.markdown([heading, *body])


def _corrected(summary: list[dict]) -> list[dict]:
    """Return a study's rows with `holm`, p corrected for the number of tests; None without a test.

    Older records have none.
    """
    p = {row["run"]: row["p"] for row in summary if row["p"] is not None}
    corrected = dict(zip(p, compare.holm([*p.values()]), strict=True))
    return [{**row, "holm": corrected.get(row["run"])} for row in summary]


def _change(row: dict) -> str:
    """Return what an ablation changes, in the words of its parameter file."""
    if not row["base"]:
        return f"**`{row['run']}`**"
    return f"`{row['run']}`: {params.change(row['run'], row['base'])}"


def _against(row: dict, main: str) -> str:
    """Return the difference to the base, named where it is not `main`, its interval and p."""
    if row["difference"] is None:
        return ""
    ends = [row[key] for key in ("least", "most") if row.get(key) is not None]
    known = [" to ".join(map(words.points, ends))] if ends else []  # older pages have none
    known += [] if row["holm"] is None else [words.p_is(row["holm"])]
    known += [f"against `{row['base']}`"] if row["base"] != main else []
    return words.points(row["difference"]) + (f" ({', '.join(known)})" if known else "")


def headline() -> str:
    """Return what the released runs reach: the most accurate one, and the best of those on a CPU.

    A line for each; one where the most accurate was itself trained on a CPU.
    """
    full = anchors.runs("released/*")
    on_cpu = {name: one for name, one in full.items() if one["environment"]["device"] == "cpu"}
    if not (ours := anchors.ours(full)):
        return "*No run on all of CIFAR-10 is released yet.*"
    best, small = ours[0], anchors.ours(on_cpu)
    second = [_reached(small[0])] if small and small[0].name != best.name else []
    return "\n\n".join([_reached(best), *second])


def _reached(best: anchors.Result) -> str:
    """Return a run's accuracy, time and size in a sentence, the first half of it bold."""
    seconds, machine = best.times[0]
    seeds = f"mean of {best.runs} seeds" if (best.runs or 1) > 1 else "one seed"
    each = [f"{_minutes(time)} in {where.split(', ')[-1]}" for time, where in best.times]
    also = words.listed(each) if len(each) > 1 else ""
    return (
        f"**{best.accuracy:.1%} on CIFAR-10 in {_minutes(seconds)} on {_cores(machine)}**, with "
        f"{best.parameters:,} parameters\n(`{best.name}`, {seeds}, a single view of each test image"
        f"{f'; {also}' if also else ''})."
    )


def _minutes(seconds: float) -> str:
    return words.count(round(seconds / 60), "minute")


def _cores(machine: str) -> str:
    """Return the machine of a training in the words of a headline: "two CPU cores"."""
    if not (threads := re.match(r"CPU, (\d+) thread", machine)):
        return f"one {machine.split(', ')[0]}"
    return f"{ {1: 'one', 2: 'two', 4: 'four'}.get(int(threads[1]), threads[1]) } CPU cores"


def picture(section: str) -> str:
    """Return the drawn comparison as HTML, for a section's page; a narrow one for phones."""
    figure, everyone = link(section, FIGURE), anchors.ours(anchors.runs()) + anchors.others()
    return (
        f'<picture><source media="(max-width: 760px)" srcset="{figure}-narrow.svg">'
        f'<img src="{figure}.svg" alt="{escape(anchors_plot.alt(everyone))}"></picture>'
    )


def compared() -> str:
    """Draw the figure of the bundle's runs and others'; return figure, table, note as Markdown."""
    everyone = anchors.ours(anchors.runs()) + anchors.others()
    anchors_plot.save(everyone, paths.ROOT / FIGURE)
    table = anchors.table(everyone)
    table["network"] = [_named(result) for result, _ in anchors.rows(everyone)]
    rows = words.markdown([list(table), *table.values.tolist()])
    return "\n\n".join((picture("anchors"), anchors.note(everyone), rows))


def _named(result: anchors.Result) -> str:
    """Return a network's name: ours in bold, others' linked to their source where it is known."""
    if not result.source:
        return f"**`{result.name}`**"
    name = result.name.replace("[", "\\[").replace("]", "\\]")
    return f"[{name}]({result.url})" if result.url else name


def fact_check() -> str:
    """Return each claim of the reference's report with what was found, by verdict, as Markdown."""
    judged = judge.judge_all(judge.read_study())
    parts = [f"Of {len(judged)} claims: {claims.counts(judged)}."]
    for verdict, (_name, heading, meaning) in claims.SECTIONS.items():
        if not (alike := [each for each in claims.by_weight(judged) if each.verdict == verdict]):
            continue
        rows = claims.glance(alike)[["claim", "reported", "found"]].map(claims.typeset)
        body = words.markdown([list(rows), *rows.values.tolist()])
        parts.append(f"## {heading} ({len(rows)})\n\n{meaning}\n\n{body}")
    return "\n\n".join(parts)


def parameters() -> str:
    """Return each parameter of the notebooks, where the first of them takes it, as Markdown."""
    parts, seen = [], set[Parameter]()
    for notebook, section in SETTINGS.items():
        rows = [row for row in described(section) if row not in seen]
        seen |= {*rows}
        body = [[f"`{row.name}`", row.group, f"`{shown(row.default)}`", row.meaning, row.values]
                for row in rows]  # fmt: skip
        heading = ["name", "group", "default", "meaning", "values"]
        parts.append(f"## {notebook}\n\n{words.markdown([heading, *body])}")
    return "\n\n".join(parts)


def write(runs: list[str]) -> None:
    """Write the sections that ``make readme`` writes, with these runs in the table of results.

    Raises Damaged where the metrics of a run here are not as they were written: none is left out
    in silence.
    """
    for pattern in ("*/metrics.json", "released/*/metrics.json"):
        for path in sorted(paths.RESULTS.glob(pattern)):
            read_json(path)
    put(headline(), "headline")
    put(colab(), "colab")
    put(table(runs), "results")
    put(reproduction(), "reproduction")
    put(ingredients(), "ingredients")
    put(compared(), "anchors")
    put(fact_check(), "claims")
    put(parameters(), "parameters")
    put(picture("comparison"), "comparison")
