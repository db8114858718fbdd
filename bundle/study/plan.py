"""A study's plan: runs, seeds, the fraction of their length, and the parameters of each job."""

from dataclasses import dataclass, fields, replace
from typing import Any

import yaml

from bundle import paths
from bundle.runs import params
from lib.errors import UserError, nearest

# Of 03_train, by a plan's `epochs`.
SCALED = ("epochs", "phase2_epochs", "milestones", "warmup_epochs")
JUDGED_ON = {"test": "test", "holdout": "hold-out"}  # and in words
PLANNED = ("train_images", "holdout", "seed")  # what a plan's other keys decide
HOLDOUT = 5000  # images kept out of training by a study that is judged on them
# Share of the epochs; images trained on, and looked at.
TINY_EPOCHS, TINY_IMAGES, TINY_LOOKED = (0.005, 512, 128)
LOOKED = ("03_train.holdout_images", "04_predict_tta.holdout_images", "04_predict_tta.test_images")


@dataclass(frozen=True)
class Plan:
    """Runs times seeds; `epochs` is each phase's share of epochs, `train_images` how many, 0: all.

    set: values that every run takes over those of its file, written as for SET=. judged_on: "test",
    or "holdout" where the study serves a choice; its runs then keep the hold-out out of training.
    tiny: an epoch or two of TINY_IMAGES images, TINY_LOOKED looked at, to see on any machine that
    every job works.
    """

    name: str
    title: str
    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    epochs: float = 1.0
    train_images: int = 0
    set: str = ""
    judged_on: str = "test"
    tiny: bool = False

    @property
    def full(self) -> bool:
        """Whether every run is that of its file, at its whole length."""
        changed = self.epochs != 1.0 or self.train_images or self.set
        return not changed and self.judged_on == "test"

    def jobs(self) -> list[str]:
        """Return RUN@SEED for each training of the plan, one seed of all runs after the other."""
        return [f"{run}@{seed}" for seed in self.seeds for run in self.runs]


def read_plan(name: str, tiny: bool = False) -> Plan:
    """Read and check params/studies/NAME.yaml; UserError, one line, for anything wrong with it.

    tiny: the plan NAME-tiny, the same runs of its first seed, TINY_EPOCHS of the epochs on
    TINY_IMAGES images.
    """
    known = sorted(
        path.stem for path in (paths.PARAMS / "studies").glob("*.yaml") if path.stem != "claims"
    )
    where = f"params/studies/{name}.yaml"
    if name not in known:
        raise UserError(
            f"PLAN={name}: no file {where}; plans: {', '.join(known)}{nearest(name, known)}"
        )
    try:
        tree = params.read_yaml(
            (paths.PARAMS / "studies" / f"{name}.yaml").read_text(encoding="utf-8")
        )
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(
            f"{where}: not valid YAML ({' '.join(str(error).split())}); mend it"
        ) from error
    allowed = [field.name for field in fields(Plan) if field.name not in ("name", "tiny")]
    if not isinstance(tree, dict) or not {"runs", "seeds"} <= set(tree):
        raise UserError(f"{where}: must hold at least 'runs: [...]' and 'seeds: [...]'")
    for key in tree:
        if key not in allowed:
            raise UserError(
                f"{where}: unknown key {key!r}{nearest(str(key), allowed)}; keys: "
                f"{', '.join(allowed)}"
            )
    _check_plan(tree, where)
    values = {**tree, "runs": tuple(tree["runs"]), "seeds": tuple(tree["seeds"])}
    plan = Plan(**{"name": name, "title": name, **values})
    if not tiny:
        return plan
    small = {"epochs": TINY_EPOCHS, "train_images": TINY_IMAGES, "seeds": plan.seeds[:1]}
    title = f"{plan.title}: does it work?"
    return replace(plan, name=f"{name}-tiny", title=title, tiny=True, **small)


def _check_plan(tree: dict[str, Any], where: str) -> None:
    for key, kind in (("runs", str), ("seeds", int)):
        values = tree[key]
        right = isinstance(values, list) and all(type(value) is kind for value in values)
        if not right or not values:
            what = "names" if kind is str else "numbers"
            raise UserError(f"{where}: {key} = {values!r}: write a list of {what}")
        if len(set(values)) != len(values):
            raise UserError(f"{where}: {key} = {values!r}: names one of them twice")
    share, images = tree.get("epochs", 1.0), tree.get("train_images", 0)
    if type(share) not in (int, float) or not 0 < share <= 1:
        raise UserError(f"{where}: epochs = {share!r}: must be a share above 0, at most 1")
    if str(tree.get("judged_on", "test")) not in JUDGED_ON:
        raise UserError(
            f"{where}: judged_on = {tree['judged_on']!r}: must be one of {', '.join(JUDGED_ON)}"
        )
    if type(images) is not int or not 0 <= images <= 50_000:
        raise UserError(
            f"{where}: train_images = {images!r}: must be a whole number, 0 (all) to 50,000"
        )
    _check_set(tree.get("set", ""), where)


def _check_set(text: Any, where: str) -> None:
    """Refuse what is no text for SET=, or sets what the plan says elsewhere."""
    if not isinstance(text, str):
        raise UserError(
            f'{where}: set = {text!r}: write text as for SET=, "03_train.batch_size=64 '
            'widths=[32,64]"'
        )
    try:
        given = params.parse_overrides(text)
    except UserError as error:
        raise UserError(f"{where}: set: {error}") from error
    for key in given:
        if key.rpartition(".")[2] in (*SCALED, *PLANNED):
            raise UserError(
                f"{where}: set: {key}: a plan says that with a key of its own, or scales it; leave "
                "it out"
            )


def parameters_of(plan: Plan, run: str, seed: int) -> params.RunParameters:
    """Return a job's parameters: the run's file with the plan's share of epochs, images, and seed.

    They are those of ``make run-all RUN=... SET=... SEED=...``, so a job can be looked at with the
    notebooks, too.
    """
    whole = params.load(run).values["03_train"]
    if plan.full and not whole["teacher"]:
        return params.load(run, seed=seed)
    parts = [plan.set] if plan.set else []
    parts += [f"train_images={plan.train_images}"] if plan.train_images else []
    if plan.judged_on == "holdout" and not whole["holdout"]:
        parts.append(f"holdout={HOLDOUT}")
    for key in SCALED:
        value = _scaled(whole[key], plan.epochs)
        if value != whole[key]:
            parts.append(f"03_train.{key}={str(value).replace(' ', '')}")
    if plan.tiny:
        parts += [f"{key}={TINY_LOOKED}" for key in LOOKED]
    if teacher := whole["teacher"]:  # of the same length, and knowing as little of the hold-out
        parts.append(f"03_train.teacher={parameters_of(plan, teacher, seed).name}")
    return params.load(run, " ".join(parts), seed)


def _scaled(value: Any, share: float) -> Any:
    if isinstance(value, list):
        return [_scaled(one, share) for one in value]
    return (
        max(1, round(value * share))
        if isinstance(value, int) and value
        else round(value * share, 4)
    )


def find_job(plan: Plan, job: str) -> params.RunParameters:
    """Return the parameters of RUN@SEED; UserError where the plan has no such job."""
    if job not in plan.jobs():
        raise UserError(f"{job}: not in params/studies/{plan.name}.yaml{nearest(job, plan.jobs())}")
    run, _, seed = job.rpartition("@")
    return parameters_of(plan, run, int(seed))
