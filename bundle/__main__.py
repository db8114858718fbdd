"""Runs of the notebooks, their trainings, studies, releases and pages, from the command line.

The targets of the Makefile are these commands. Exit code 0: done; 1: failed; 2: bad input or busy,
one line; 130 and 143: interrupted.
"""

import argparse
import functools
import json
import shlex
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bundle import command, house, paths, surroundings
from bundle.demo import command as demo
from bundle.own import command as own
from lib.errors import UserError, exit_on_user_error

if TYPE_CHECKING:
    from bundle.runs.launch import Server
    from bundle.runs.params import RunParameters

RUN = "name of a file in params/, without .yaml"
RETRAIN = "train again although a finished training is there"
RELEASES = {"weights": "rounded to float16", "logits": "of every view", "record": "without report"}
ELSEWHERE = "go on although another machine began: the record names both, nobody gets the bits"
# What any command about a run takes.
TEXTS = {
    "set": 'such as "03_train.epochs=2 seed=7"',
    "seed": "results go to results/RUN-seedN",
    "threads": "CPU threads, or auto: the cores here; results go to results/RUN-threadsN",
    "author": "a line for the head of the report",
    "course": "a line for the head of the report",
}


def _parameters(args: Namespace, resolved: bool = False) -> "RunParameters":
    """Return the checked parameters of the run that is named, `resolved`: with its dataset."""
    from bundle.runs import params

    loaded = params.load(args.run, _overrides(args), args.seed)
    return params.with_dataset(loaded) if resolved else loaded


def _overrides(args: Namespace) -> str:
    """Return the text of SET with the threads, and author and course, whatever signs they hold."""
    parts = [args.set, shlex.quote(f"threads={args.threads}") * bool(args.threads)]
    for key in ("author", "course"):
        value = getattr(args, key)
        if not value.isprintable():
            raise UserError(f"{key.upper()}={value!r}: must be one line of text")
        if value:
            parts.append(shlex.quote(f"06_report.{key}={json.dumps(value, ensure_ascii=False)}"))
    return " ".join(parts)


def _ready(parameters: "RunParameters") -> "RunParameters":
    """Return the parameters once what they need from outside is there; raises UserError."""
    from bundle.runs import ready

    ready.check(parameters)
    return parameters


def run(args: Namespace) -> int:
    """Run the notebooks of a run, render its pages, end with the result."""
    surroundings.check_packages()
    from bundle.runs import params

    if args.until and args.until not in (known := params.notebooks()):
        raise UserError(f"UNTIL={args.until}: no such notebook; one of {', '.join(known)}")
    parameters = _ready(_parameters(args))
    from bundle.runs import execute, launch

    again = execute.again(parameters.name)
    try:
        with launch.Server() as server:
            parameters = params.with_dataset(parameters)
            ran = execute.run_all(parameters, server, args.retrain, args.until)
            return _show(parameters, "06_report" in ran, server)
    except KeyboardInterrupt as stop:
        return command.stopped(stop, f"finished notebooks and epochs are kept; go on with: {again}")
    except OSError as error:
        return command.failed(error, again)


def _show(parameters: "RunParameters", reported: bool, server: "Server") -> int:
    """Render a run's pages and what compares it with others, and print its main figures."""
    from bundle.files import Damaged, is_sealed
    from bundle.pages import index, publish
    from bundle.runs import results, terminal

    old = reported or not is_sealed(paths.RESULTS / "claims.html")
    if old and server.command("claims") != 0:
        from bundle.claims import page  # late: it loads PyTorch, which the server has

        try:
            page.write_page()
        except Damaged as problem:
            print(f"{problem}; the page of the claims stays as it was", file=sys.stderr)
    publish.render_run(parameters.name)
    index.write_index()
    if "report" in results.read_metrics(parameters.name):
        print(terminal.summary(parameters))
    return 0


def status(args: Namespace) -> int:
    """Say what a run reached and which of its notebooks are up to date, and if not, why."""
    from bundle.runs import params

    parameters = params.with_dataset(_parameters(args), network=False)
    from bundle.runs import terminal

    print(terminal.state(parameters))
    return 0


def train(args: Namespace) -> int:
    """Train a run without a notebook; it leaves the same state as 03_train."""
    from bundle.dataset import cifar10
    from bundle.files import locked
    from bundle.training import progress, session

    parameters = _ready(_parameters(args, resolved=True))
    settings = parameters.settings("03_train")
    name, _ = cifar10.resolve(settings.dataset, verify=False)  # load verifies
    dataset = cifar10.load(name, settings.train_images, settings.holdout)
    folder = paths.results(parameters.name)
    with locked(folder, parameters.name):
        given = (settings, dataset, folder, progress.print_epoch, args.retrain)
        done = session.train(*given, elsewhere=args.elsewhere)
    print(f"{paths.shown(folder)}/training: complete, {done.summary['epochs']} epochs")
    return 0


def verify(args: Namespace) -> int:
    """Train a finished run again from nothing and compare weights and test accuracy."""
    from bundle.files import locked
    from bundle.release.verify import verify as again

    parameters = _ready(_parameters(args, resolved=True))
    with locked(paths.results(parameters.name), parameters.name):
        return 0 if again(parameters) else 1


def release(args: Namespace) -> int:
    """Write a finished run to results/released/, to be committed."""
    from bundle.files import locked
    from bundle.release import release as releases
    from bundle.training import released

    what = [name for name in RELEASES if getattr(args, name)]
    parameters = _parameters(args, resolved=True)
    try:
        with locked(paths.results(parameters.name), parameters.name):
            done = releases.release(parameters, what)
    except KeyboardInterrupt as stop:
        target = paths.shown(released.folder(parameters.name))
        return command.stopped(stop, f"{target} is as it was")
    size = sum(path.stat().st_size for path in done.rglob("*") if path.is_file()) / 2**20
    print(f"{paths.shown(done)}: {size:.1f} MiB, to be committed; begin with its model_card.md")
    return 0


def logits(args: Namespace) -> int:
    """Write the logits of a run's finished training beside its weights."""
    from bundle.files import locked
    from bundle.training import logits as saved

    parameters = _ready(_parameters(args))
    with locked(paths.results(parameters.name), parameters.name):
        path = saved.save(parameters.name, parameters.settings("04_predict_tta"))
    print(f"{paths.shown(path)}: {path.stat().st_size / 2**20:.1f} MiB")
    return 0


def study(args: Namespace) -> int:
    """List the jobs of a plan, do one of them, or collect them on the study's page."""
    from bundle.study.plan import every_job, find_job, read_plan

    plan = read_plan(args.plan, args.tiny)
    if args.action == "jobs":
        print(" ".join(every_job(plan)))
        return 0
    from bundle.study import jobs  # late: it loads PyTorch

    if args.action == "job":
        jobs.do_job(_ready(find_job(plan, args.job)), plan.judged_on, wait_s=args.wait)
    else:
        from bundle.study.page import write_page

        print(paths.shown(write_page(jobs.collect(plan))))
    return 0


def cluster(args: Namespace) -> int:
    """Do a plan on a cluster, by way of Snakemake."""
    from bundle.study.cluster import study_on_cluster
    from bundle.study.plan import read_plan

    return study_on_cluster(read_plan(args.plan, args.tiny), args.profile, args.check)


def claims(_args: Namespace) -> int:
    """Judge the reference report's claims by what is here: results/claims.html."""
    from bundle.claims import page

    print(paths.shown(page.write_page()))
    return 0


def pages(args: Namespace) -> int:
    """Render the pages of a run again and the index over all runs."""
    from bundle.pages import index, publish

    if args.run:
        paths.check_run_name("RUN", args.run)
    done = publish.render_run(args.run)[-1:] if args.run else []
    over_all = index.write_index()
    if args.pdf and args.run:
        done.append(publish.print_pdf(args.run))
    print("\n".join(paths.shown(path) for path in done or [over_all]))
    return 0


def data(args: Namespace) -> int:
    """Find CIFAR-10 or fetch it into data/: 170 MB, verified; it resumes."""
    from bundle.dataset import cifar10

    if args.node:
        print(cifar10.on_node(args.node) or "")
        return 0
    say = functools.partial(print, flush=True)
    try:
        _, root = cifar10.resolve("auto" if args.auto else "cifar10", say=say)
    except KeyboardInterrupt as stop:
        return command.stopped(stop, "what was downloaded is kept, `make data` goes on from there")
    if root:
        version = cifar10.CIFAR10.version_in(root) or cifar10.CIFAR10
        print(f"CIFAR-10 is in {paths.shown(root / version.folder)}")
        if others := cifar10.unused(root):
            print(others)
    return 0


def readme(args: Namespace) -> int:
    """Write the tables of results in README.md and docs/ from the runs that are here."""
    from bundle import readme as tables

    runs = [name for given in args.runs for name in given.split(" ") if name]
    for name in runs or [""]:
        paths.check_run_name("RUNS", name)
    tables.write(runs)
    return 0


def _with_texts(added: argparse.ArgumentParser) -> argparse.ArgumentParser:
    for key, told in TEXTS.items():
        added.add_argument(f"--{key}", default="", help=told)
    return added


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    made = command.Parser(prog="python -m bundle", description=command.first_line(__doc__))
    commands = made.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def added_for(function: Callable) -> argparse.ArgumentParser:
        told = command.first_line(function.__doc__)
        added = commands.add_parser(function.__name__, help=told, description=told)
        added.set_defaults(function=function)
        return added

    def of_run(function: Callable) -> argparse.ArgumentParser:
        added = added_for(function)
        added.add_argument("run", help=RUN)
        return _with_texts(added)

    def of_plan(function: Callable) -> argparse.ArgumentParser:
        added = added_for(function)
        if function is study:
            added.add_argument("action", choices=("jobs", "job", "collect"))
        added.add_argument("plan", help="name of a file in params/studies/, without .yaml")
        added.add_argument("--tiny", action="store_true", help="an epoch or two of few images")
        return added

    running, training = of_run(run), of_run(train)
    for added in (running, training):
        added.add_argument("--retrain", action="store_true", help=RETRAIN)
    running.add_argument("--until", default="", help="last notebook to run, such as 03_train")
    training.add_argument("--elsewhere", action="store_true", help=ELSEWHERE)
    for function in (status, verify, logits):
        of_run(function)
    added = of_run(release)
    for name, told in RELEASES.items():
        added.add_argument(f"--{name}", action="store_true", help=told)
    added = of_plan(study)
    added.add_argument("job", nargs="?", default="", help="RUN@SEED")
    added.add_argument("--wait", type=float, default=0.0, metavar="S", help="for another process")
    added = of_plan(cluster)
    added.add_argument("--profile", default="local", help="a folder in cluster/")
    added.add_argument("--check", action="store_true", help="check everything, submit nothing")
    added_for(claims)
    added = added_for(pages)
    added.add_argument("run", nargs="?", help="a folder of results/; the index alone without it")
    added.add_argument("--pdf", action="store_true", help="print the report to PDF as well")
    added = added_for(data)
    added.add_argument("--auto", action="store_true", help="wait 5 minutes at most, else go on")
    added.add_argument("--node", type=Path, metavar="DIR", help="copy it to a disk of this node")
    added_for(readme).add_argument("runs", nargs="+", help="runs of the table, in this order")
    return demo.added(own.added(house.added(made, added_for), added_for), added_for)


def main(arguments: list[str] | None = None) -> int:
    """Do one command and return its exit code; raises UserError."""

    def work() -> int:
        args = parser().parse_args(arguments)
        return args.function(args)

    return command.guarded(work)


if __name__ == "__main__":
    exit_on_user_error(lambda: command.alone(main))
