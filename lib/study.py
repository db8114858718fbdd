"""A study: the runs and seeds of a plan, each trained, predicted and recorded without notebooks.

``python -m lib.study jobs PLAN`` lists them, ``job PLAN RUN@SEED`` does one, ``collect PLAN``
writes the study's page. `make study` gives the jobs to make as targets, so that its -j decides how
many work at a time.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from lib import data, fingerprint, outcome, params, paths, progress, shipped, train
from lib.errors import exit_on_user_error
from lib.lock import Failed, locked
from lib.plan import Plan, find_job, read_plan
from lib.settings import Train
from lib.state import complete_folder, read_json, write_json

RESULT = "study.json"  # in results/RUN: what a job found


def do_job(
    parameters: params.RunParameters, judged_on: str = "test", say=print, wait_s: float = 0.0
) -> None:
    """Train, or go on, predict and record; what is there, of these parameters, is not redone.

    A job that was done elsewhere needs its study.json alone, neither its weights nor its training.
    Where another process is at it, Failed is raised after `wait_s` seconds: a node that was given
    up may still be writing.
    """
    folder, settings = paths.results(parameters.name), parameters.settings("03_train")
    dataset = data.load(settings.dataset, settings.train_images, settings.holdout)
    with locked(folder, parameters.name, wait_s):
        if is_done(folder, settings, judged_on, dataset.checksum):
            say(f"{parameters.name}: done already", flush=True)
            return
        if changed := outdated(folder, settings):
            say(f"{changed}; it is trained again, and stays until that is done", flush=True)
        shipped.with_network(parameters.name, "make study")
        training = train.train(
            settings,
            dataset,
            folder,
            lambda row: say(f"{parameters.name}: {progress.epoch_line(row)}", flush=True),
        )
        found, logits = outcome.of_study(training, dataset, parameters, judged_on)
        np.savez_compressed(folder / "study.npz", **logits)
        write_json(folder / RESULT, found)
    say(f"{parameters.name}: {judged_on} accuracy {found['test']['accuracy']:.2%}", flush=True)


def is_done(folder: Path, settings: Train, judged_on: str, checksum: str = "") -> bool:
    """Whether the job in `folder` was done with these parameters, images and any training here."""
    found, trained = read_json(folder / RESULT), read_json(complete_folder(folder) / "state.json")
    return (
        bool(found)
        and found.get("judged_on", "test") == judged_on
        and checksum in ("", found["data_checksum"])
        and train.same_parameters(found["settings"], train.parameters_of(settings))
        and trained.get("weights_sha256", found["weights_sha256"]) == found["weights_sha256"]
    )


def outdated(folder: Path, settings: Train) -> str:
    """Return the parameters in which a job's findings differ from its file now, "" for none.

    One line, for whoever waits for them or for the page that leaves them out.
    """
    found = read_json(folder / RESULT)
    if not found:
        return ""
    then, now = (
        train.with_defaults(one) for one in (found["settings"], train.parameters_of(settings))
    )
    changed = fingerprint.differences(then, now)
    return (
        f"{paths.shown(folder)}: done with other parameters ({', '.join(changed[:4])})"
        if changed
        else ""
    )


def collect(plan: Plan) -> dict[str, Any]:
    """Return every job's findings, in the plan's order, and the plan; jobs not done are named."""
    found, missing = [], []
    for job in plan.jobs():
        parameters = find_job(plan, job)
        folder = paths.results(parameters.name)
        if is_done(folder, parameters.settings("03_train"), plan.judged_on):
            found.append({**read_json(folder / RESULT), "base": params.base_of(parameters.file)})
        else:
            missing.append(job)
            if changed := outdated(folder, parameters.settings("03_train")):
                remedy = f"make study PLAN={plan.name} does it again"
                print(f"{changed}; left out: {remedy}", file=sys.stderr)
    told = {"name": plan.name, "title": plan.title}
    told |= {"runs": list(plan.runs), "seeds": list(plan.seeds)}
    for key in ("epochs", "train_images", "full", "set", "judged_on"):
        told[key] = getattr(plan, key)
    return {"plan": told, "jobs": found, "missing": missing}


def folder_of(plan: str) -> Path:
    """Return where a study's page and figures lie."""
    return paths.RESULTS / "studies" / plan


def main(arguments: list[str] | None = None) -> int:
    """List, do or collect the jobs of a plan; 0 done, 1 failed, 2 bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m lib.study", description=__doc__.splitlines()[0]
    )
    parser.add_argument("action", choices=("jobs", "job", "collect"))
    parser.add_argument("plan", help="name of a file in params/studies/, without .yaml")
    parser.add_argument("job", nargs="?", default="", help="RUN@SEED")
    parser.add_argument(
        "--tiny", action="store_true", help="an epoch or two of few images, to try it"
    )
    parser.add_argument(
        "--wait", type=float, default=0.0, metavar="S", help="for another process at the same job"
    )
    asked = parser.parse_args(arguments)
    plan = read_plan(asked.plan, asked.tiny)
    if asked.action == "jobs":
        for job in plan.jobs():
            find_job(plan, job)  # every parameter is checked before anything starts
        print(" ".join(plan.jobs()))
        return 0
    try:
        if asked.action == "job":
            do_job(find_job(plan, asked.job), plan.judged_on, wait_s=asked.wait)
        else:
            from lib.study_page import write_page

            print(paths.shown(write_page(collect(plan))))
        return 0
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    exit_on_user_error(main)
