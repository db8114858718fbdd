"""A study: the runs and seeds of a plan, each trained, predicted and recorded without notebooks.

``python -m lib.study jobs PLAN`` lists them, ``job PLAN RUN@SEED`` does one, ``collect PLAN`` writes the study's page.
`make study` gives the jobs to make as targets, so that its -j decides how many work at a time.
"""

import argparse
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lib import data, outcome, params, paths, progress, shipped, train
from lib.errors import UserError, exit_on_user_error, nearest
from lib.lock import Failed, locked
from lib.settings import Train
from lib.state import complete_folder, read_json, write_json
from lib.study_words import HOLDOUT

SCALED = ("epochs", "phase2_epochs", "milestones", "warmup_epochs")  # of 03_train, by a plan's `epochs`
JUDGED_ON = ("test", "holdout")
TINY_EPOCHS, TINY_IMAGES = 0.005, 512  # share of the epochs; images trained on, and looked at
RESULT = "study.json"  # in results/RUN: what a job found


@dataclass(frozen=True)
class Plan:
    """Runs times seeds; `epochs` is the share of each phase's epochs, `train_images` how many, 0 for all.

    judged_on: "test", or "holdout" where the study serves a choice; its runs then keep the hold-out out of training.
    tiny: an epoch or two of TINY_IMAGES images, to see on any machine that every job of the plan works.
    """

    name: str
    title: str
    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    epochs: float = 1.0
    train_images: int = 0
    judged_on: str = "test"
    tiny: bool = False

    @property
    def full(self) -> bool:
        """Whether every run has its whole length."""
        return self.epochs == 1.0 and not self.train_images and self.judged_on == "test"

    def jobs(self) -> list[str]:
        """Return RUN@SEED for each training of the plan, one seed of all runs after the other."""
        return [f"{run}@{seed}" for seed in self.seeds for run in self.runs]


def read_plan(name: str, tiny: bool = False) -> Plan:
    """Read and check params/studies/NAME.yaml; UserError, one line, for anything wrong with it.

    tiny: the plan NAME-tiny, the same runs of its first seed, TINY_EPOCHS of the epochs on TINY_IMAGES images.
    """
    known = sorted(path.stem for path in (paths.PARAMS / "studies").glob("*.yaml") if path.stem != "claims")
    where = f"params/studies/{name}.yaml"
    if name not in known:
        raise UserError(f"PLAN={name}: no file {where}; plans: {', '.join(known)}{nearest(name, known)}")
    try:
        tree = yaml.safe_load((paths.PARAMS / "studies" / f"{name}.yaml").read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{where}: not valid YAML ({' '.join(str(error).split())}); mend it") from error
    allowed = [field.name for field in fields(Plan) if field.name not in ("name", "tiny")]
    if not isinstance(tree, dict) or not {"runs", "seeds"} <= set(tree):
        raise UserError(f"{where}: must hold at least 'runs: [...]' and 'seeds: [...]'")
    for key in tree:
        if key not in allowed:
            raise UserError(f"{where}: unknown key {key!r}{nearest(str(key), allowed)}; keys: {', '.join(allowed)}")
    _check_plan(tree, where)
    values = {**tree, "runs": tuple(tree["runs"]), "seeds": tuple(tree["seeds"])}
    plan = Plan(**{"name": name, "title": name, **values})
    if not tiny:
        return plan
    small = {"epochs": TINY_EPOCHS, "train_images": TINY_IMAGES, "seeds": plan.seeds[:1], "tiny": True}
    return replace(plan, name=f"{name}-tiny", title=f"{plan.title}: does it work?", **small)


def _check_plan(tree: dict[str, Any], where: str) -> None:
    for key, kind in (("runs", str), ("seeds", int)):
        values = tree[key]
        if not isinstance(values, list) or not values or not all(type(value) is kind for value in values):
            raise UserError(f"{where}: {key} = {values!r}: write a list of {'names' if kind is str else 'numbers'}")
        if len(set(values)) != len(values):
            raise UserError(f"{where}: {key} = {values!r}: names one of them twice")
    share, images = tree.get("epochs", 1.0), tree.get("train_images", 0)
    if type(share) not in (int, float) or not 0 < share <= 1:
        raise UserError(f"{where}: epochs = {share!r}: must be a share above 0, at most 1")
    if tree.get("judged_on", "test") not in JUDGED_ON:
        raise UserError(f"{where}: judged_on = {tree['judged_on']!r}: must be one of {', '.join(JUDGED_ON)}")
    if type(images) is not int or not 0 <= images <= 50_000:
        raise UserError(f"{where}: train_images = {images!r}: must be a whole number, 0 (all) to 50,000")


def parameters_of(plan: Plan, run: str, seed: int) -> params.RunParameters:
    """Return a job's parameters: the run's file with the plan's share of epochs and images, and the seed.

    They are those of ``make run-all RUN=... SET=... SEED=...``, so a job can be looked at with the notebooks, too.
    """
    whole = params.load(run).values["03_train"]
    if plan.full and not whole["teacher"]:
        return params.load(run, seed=seed)
    parts = [f"train_images={plan.train_images}"] if plan.train_images else []
    if plan.judged_on == "holdout" and not whole["holdout"]:
        parts.append(f"holdout={HOLDOUT}")
    for key in SCALED:
        value = _scaled(whole[key], plan.epochs)
        if value != whole[key]:
            parts.append(f"03_train.{key}={str(value).replace(' ', '')}")
    if plan.tiny:
        parts += [f"04_predict_tta.{key}={TINY_IMAGES}" for key in ("test_images", "holdout_images")]
    if teacher := whole["teacher"]:  # of the same length, and knowing as little of the hold-out
        parts.append(f"03_train.teacher={parameters_of(plan, teacher, seed).name}")
    return params.load(run, " ".join(parts), seed)


def _scaled(value: Any, share: float) -> Any:
    if isinstance(value, list):
        return [_scaled(one, share) for one in value]
    return max(1, round(value * share)) if isinstance(value, int) and value else round(value * share, 4)


def find_job(plan: Plan, job: str) -> params.RunParameters:
    """Return the parameters of RUN@SEED; UserError where the plan has no such job."""
    if job not in plan.jobs():
        raise UserError(f"{job}: not in params/studies/{plan.name}.yaml{nearest(job, plan.jobs())}")
    run, _, seed = job.rpartition("@")
    return parameters_of(plan, run, int(seed))


def do_job(parameters: params.RunParameters, judged_on: str = "test", say=print) -> None:
    """Train, or go on, predict and record; what is there already, of these parameters, is not done again.

    A job that was done elsewhere needs its study.json alone, neither its weights nor its training.
    """
    folder, settings = paths.results(parameters.name), parameters.settings("03_train")
    dataset = data.load(settings.dataset, settings.train_images, settings.holdout)
    with locked(folder, parameters.name):
        if is_done(folder, settings, judged_on, dataset.checksum):
            say(f"{parameters.name}: done already", flush=True)
            return
        shipped.with_network(parameters.name, "make study")
        training = train.train(
            settings, dataset, folder, lambda row: say(f"{parameters.name}: {progress.epoch_line(row)}", flush=True)
        )
        found, logits = outcome.of_study(training, dataset, parameters, judged_on)
        np.savez_compressed(folder / "study.npz", **logits)
        write_json(folder / RESULT, found)
    say(f"{parameters.name}: {judged_on} accuracy {found['test']['accuracy']:.2%}", flush=True)


def is_done(folder: Path, settings: Train, judged_on: str, checksum: str = "") -> bool:
    """Whether the job in `folder` was done with these parameters and images and, where it is here, this training."""
    found, trained = read_json(folder / RESULT), read_json(complete_folder(folder) / "state.json")
    return (
        bool(found)
        and found.get("judged_on", "test") == judged_on
        and checksum in ("", found["data_checksum"])
        and train.same_parameters(found["settings"], train.parameters_of(settings))
        and trained.get("weights_sha256", found["weights_sha256"]) == found["weights_sha256"]
    )


def collect(plan: Plan) -> dict[str, Any]:
    """Return every job's findings, in the plan's order, with the plan itself; jobs not done yet are named."""
    found, missing = [], []
    for job in plan.jobs():
        parameters = find_job(plan, job)
        folder = paths.results(parameters.name)
        if is_done(folder, parameters.settings("03_train"), plan.judged_on):
            found.append({**read_json(folder / RESULT), "base": params.base_of(parameters.file)})
        else:
            missing.append(job)
    told = {"name": plan.name, "title": plan.title, "runs": list(plan.runs), "seeds": list(plan.seeds),
            "epochs": plan.epochs, "train_images": plan.train_images, "full": plan.full,
            "judged_on": plan.judged_on}  # fmt: skip
    return {"plan": told, "jobs": found, "missing": missing}


def folder_of(plan: str) -> Path:
    """Return where a study's page and figures lie."""
    return paths.RESULTS / "studies" / plan


def main(arguments: list[str] | None = None) -> int:
    """List, do or collect the jobs of a plan; 0 done, 1 failed, 2 bad input."""
    parser = argparse.ArgumentParser(prog="python -m lib.study", description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("jobs", "job", "collect"))
    parser.add_argument("plan", help="name of a file in params/studies/, without .yaml")
    parser.add_argument("job", nargs="?", default="", help="RUN@SEED")
    parser.add_argument("--tiny", action="store_true", help="an epoch or two of few images, to try it")
    asked = parser.parse_args(arguments)
    plan = read_plan(asked.plan, asked.tiny)
    if asked.action == "jobs":
        for job in plan.jobs():
            find_job(plan, job)  # every parameter is checked before anything starts
        print(" ".join(plan.jobs()))
        return 0
    try:
        if asked.action == "job":
            do_job(find_job(plan, asked.job), plan.judged_on)
        else:
            from lib.study_page import write_page

            print(paths.shown(write_page(collect(plan))))
        return 0
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    exit_on_user_error(main)
