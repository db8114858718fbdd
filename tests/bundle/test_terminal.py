"""What the terminal says of a run: its steps, the time they took, its end, its state."""

import json

import pytest

from bundle import __main__ as command
from bundle import files, paths, words
from bundle.runs import params, results, status, terminal
from bundle.runs.graph import nodes
from bundle.training import progress
from bundle.training.progress import Follower, epoch_line
from lib.errors import UserError

WIDTH = 100  # columns
TEST = {"images": 1000, "accuracy": 0.485, "low": 0.4541, "high": 0.5160, "tta_accuracy": 0.49}
METRICS = {
    "parameters": 4_754_218,
    "notice": "a subset of CIFAR-10: 8,000 of 50,000 training and 1,000 of 10,000 test images",
    "test": TEST,
    "tta": {"combination": "flip"},
    "train": {
        "epochs": 3,
        "seconds": 191.0,
        "finished": "2026-11-25T14:03:00Z",
        "released": None,
        "stale": [],
    },
}
ROW = {
    "epoch": 2,
    "train_loss": 1.2345,
    "holdout_accuracy": 0.339,
    "learning_rate": 0.0123456,
    "images_per_second": 391.6,
    "seconds": 30.0,
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty results/ and the run `quick`, as its file says."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    return params.RunParameters("quick", "quick", {})


def write(name, found):
    path = paths.RESULTS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found))


def waits(monkeypatch, *names):
    """Have only these notebooks to run."""
    rows = [(node, ["changed"] if node.name in names else []) for node in nodes()]
    monkeypatch.setattr(status, "waiting", lambda parameters: rows)
    return [node for node, phrases in rows if phrases]


# Steps


def test_a_step_is_one_line_with_its_place(capsys):
    steps = terminal.Steps(["01_explore_data", "03_train", "07_new_idea"])
    steps.end("01_explore_data", "up to date")
    steps.begin("03_train", own_lines=True)
    steps.end("03_train", "done in 3 min")
    steps.begin("07_new_idea")
    steps.end("07_new_idea", "done in 8 s")
    assert capsys.readouterr().out.splitlines() == [
        "[1 of 3] Data (01_explore_data): up to date",
        "[2 of 3] Training (03_train): running",
        "[2 of 3] Training (03_train): done in 3 min",
        "[3 of 3] New idea (07_new_idea): running ... done in 8 s",
    ]


def test_an_error_stands_on_a_line_of_its_own(capsys):
    steps = terminal.Steps(["01_explore_data"])
    steps.begin("01_explore_data")
    steps.break_line()
    steps.break_line()
    assert capsys.readouterr().out.endswith("running ... \n")


def test_the_plan_adds_up_what_the_last_time_took(here, monkeypatch):
    assert len(waits(monkeypatch)) == 0 and terminal.plan(here) == "quick: all is up to date"
    todo = waits(monkeypatch, "01_explore_data", "02_build_model")
    assert terminal.plan(here) == "quick: 2 notebooks to run; how long that takes is not known yet"
    for node, seconds in zip(todo, (40.2, 85.0), strict=True):
        record = {"before": {}, "outputs": {}, "seconds": seconds}
        write(f"quick/fingerprints/{node.name}.json", record)
    assert terminal.plan(here) == "quick: 2 notebooks to run, some 2 min by the last time"
    assert terminal.plan(here, until="01_explore_data").startswith(
        "quick: 1 notebook to run, some 40 s"
    )


def test_the_plan_knows_a_training_by_its_release(here, monkeypatch):
    waits(monkeypatch, "03_train", "04_predict_tta")
    machine = {"device": "cpu", "threads": 2, "precision": "bf16"}
    write("released/quick/metrics.json", {"train": {"seconds": 1275.0}, "environment": machine})
    told = terminal.plan(here)
    assert told.endswith("the training took 21 min where it was released (CPU, 2 threads, bf16)")


def test_training_again_takes_as_long_as_the_training_did(here, monkeypatch):
    waits(monkeypatch)
    write("quick/fingerprints/03_train.json", {"seconds": 9.0})  # it was loaded the last time
    write("quick/metrics/03_train.json", {"train": {"seconds": 600.0}})
    assert (
        terminal.plan(here, retrain=True)
        == "quick: 1 notebook to run, some 10 min by the last time"
    )


# The end


def summary(here, monkeypatch, **changed):
    found = {**METRICS, **changed}
    monkeypatch.setattr(results, "read_metrics", lambda run: found)
    lines = terminal.summary(here).splitlines()
    assert len(lines) <= 4 and max(map(len, lines)) <= WIDTH
    return lines


def test_a_rehearsal_ends_with_what_it_is_and_the_command_of_a_full_result(here, monkeypatch):
    full = {"test": {"accuracy": 0.9357}, "train": {"seconds": 1275.0}}
    write("released/cpu/metrics.json", full)
    assert summary(here, monkeypatch)[:3] == [
        "result   48.5% of 1,000 test images right (95%: 45.4% to 51.6%); "
        "49.0% with averaged views",
        "network  4,754,218 parameters; 3 epochs in 3 min",
        "report   results/quick/report.html; all runs: results/index.html",
    ]
    last = summary(here, monkeypatch)[3]
    assert "a rehearsal" in last and "make run-all RUN=cpu (93.6%, 21 minutes)" in last


def test_other_endings(here, monkeypatch):
    digits = summary(here, monkeypatch, notice=words.DIGITS_NOTICE)[-1]
    assert "handwritten digits, not CIFAR-10" in digits and "make data" in digits
    whole = {**TEST, "images": 10_000, "accuracy": 0.93571, "low": 0.9307, "high": 0.9403}
    lines = summary(here, monkeypatch, notice="", test=whole, tta={"combination": "original"})
    assert lines[0] == "result   93.57% of 10,000 test images right (95%: 93.07% to 94.03%)"
    assert "make pdf RUN=quick" in lines[-1]
    taken = summary(here, monkeypatch, train={**METRICS["train"], "released": {"before": 0.9}})[1]
    assert taken.endswith("3 epochs in 3 min, released: trained elsewhere"), taken
    stale = summary(here, monkeypatch, notice="", train={**METRICS["train"], "stale": ["step"]})[-1]
    assert "stale" in stale and "not a result to cite" in stale


def test_the_end_names_the_file_of_predictions_where_there_is_one(here, monkeypatch):
    assert not any("submission" in line for line in summary(here, monkeypatch))
    (paths.RESULTS / "quick").mkdir(parents=True, exist_ok=True)
    (paths.RESULTS / "quick" / "submission.csv").touch()
    monkeypatch.setattr(results, "read_metrics", lambda run: METRICS)
    lines = terminal.summary(here).splitlines()
    assert len(lines) == 5 and lines[3] == "csv      results/quick/submission.csv"


def test_status_names_run_result_day_and_report(here, monkeypatch):
    waits(monkeypatch, "05_confusion")
    assert terminal.state(here).splitlines()[0] == f"quick: 1 of {len(nodes())} notebooks to run"
    write("quick/metrics.json", METRICS)
    (paths.RESULTS / "quick" / "report.html").write_text("")
    waits(monkeypatch)
    first, *rest = terminal.state(here).splitlines()
    assert first == (
        "quick: all up to date; 48.5% on the test set, trained on 2026-11-25; "
        "results/quick/report.html"
    )
    assert len(first) <= WIDTH and len(rest) == len(nodes())
    assert all(line.endswith("up to date") for line in rest)


# A training


def test_an_epoch_is_told_with_three_digits_and_the_term():
    assert epoch_line(ROW, 4) == (
        "epoch 2/4  loss 1.234  hold-out accuracy 33.9%  rate 0.0123  392 images/s  60 s left"
    )
    assert "rate 0 " in epoch_line({**ROW, "learning_rate": 5.053e-07})


def test_the_hold_out_is_explained_once(tmp_path, capsys):
    follower = Follower(tmp_path, 2)
    (tmp_path / "training.partial").mkdir()
    for epoch in (1, 2):
        with (tmp_path / "training.partial" / "history.jsonl").open("a") as file:
            file.write(json.dumps({**ROW, "epoch": epoch}) + "\n")
        follower.poll()
    follower.close()
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in told] == ["(hold-out:", "epoch", "epoch"]
    assert max(map(len, told)) <= WIDTH


@pytest.mark.parametrize(("load", "said"), [(2.7, 0), (2.8, 1), (9.0, 1)])
def test_a_crowded_machine_is_told_but_not_at_every_look(load, said, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress.os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    monkeypatch.setattr(progress.os, "getloadavg", lambda: (load, 0.0, 0.0))
    follower = Follower(tmp_path, 2)
    follower.crowded_at -= 1 + progress.CROWDED_SECONDS
    (tmp_path / "training.partial").mkdir()
    (tmp_path / "training.partial" / "history.jsonl").write_text(json.dumps(ROW) + "\n")
    follower.poll()
    follower.poll()
    line = f"slowed by other processes (load {load} on 2 cores)"
    assert capsys.readouterr().out.count(line) == said


# Author and course


def overridden(*options):
    args = command.parser().parse_args(["run", "quick", *options])
    return params.load(args.run, command._overrides(args), args.seed)


@pytest.mark.parametrize(
    "author", ["A. Name", "O'Neil, Zoë", 'The "Team" = 2 #1', "42", "$HOME \\n", "null", "[a, b]"]
)
def test_author_and_course_reach_the_report_as_they_are(author):
    loaded = overridden("--author", author, "--course", "Deep Learning: II", "--set", "seed=7")
    assert loaded.values["06_report"]["author"] == author
    assert loaded.values["06_report"]["course"] == "Deep Learning: II"
    assert loaded.name == "quick-seed7"  # they change a page and no result


def test_an_author_of_two_lines_is_refused():
    with pytest.raises(UserError, match=r"AUTHOR='A\\nB': must be one line of text"):
        overridden("--author", "A\nB")


def test_a_notebook_that_counts_adds_its_shares_to_its_line(tmp_path, capsys):
    file = tmp_path / progress.PROGRESS
    follower = progress.Shares(file)
    follower.poll()
    assert capsys.readouterr().out == ""
    for done, said in ((2, ""), (3, "20% "), (3, ""), (9, "40% 60% "), (13, "")):
        files.write_json(file, {"done": done, "of": 13})
        follower.poll()
        assert capsys.readouterr().out == said, done
    file.write_text("{")  # half a moment between two files
    follower.close()
    assert capsys.readouterr().out == ""
