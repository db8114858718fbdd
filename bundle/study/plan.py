"""A study's plan: runs, seeds, the fraction of their length, and the parameters of each job."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from bundle import paths
from bundle.inputs import check_keys, check_name, read_file
from bundle.runs import params
from lib.errors import UserError, nearest

# Of 03_train, by a plan's `epochs`.
SCALED = ("epochs", "phase2_epochs", "milestones", "warmup_epochs", "stem_bias_epochs")
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
    folder, where = paths.PARAMS / "studies", f"params/studies/{name}.yaml"
    known = sorted(path.stem for path in folder.glob("*.yaml") if path.stem != "claims")
    check_name("PLAN", name, known, where)
    tree = read_file(folder / f"{name}.yaml", where)
    if not isinstance(tree, dict) or not {"runs", "seeds"} <= set(tree):
        raise UserError(f"{where}: must hold at least 'runs: [...]' and 'seeds: [...]'")
    check_keys(tree, RULES, where)
    _check_values(tree, where)
    values = {**tree, "runs": tuple(tree["runs"]), "seeds": tuple(tree["seeds"])}
    plan = Plan(**{"name": name, "title": name, **values})
    if not tiny:
        return plan
    small: dict[str, Any] = {"epochs": TINY_EPOCHS, "train_images": TINY_IMAGES}
    small["seeds"] = plan.seeds[:1]
    title = f"{plan.title}: does it work?"
    return replace(plan, name=f"{name}-tiny", title=title, tiny=True, **small)


def _are(kind: type) -> Callable[[Any], bool]:
    """Return the test whether a value is a list of `kind` with at least one element."""
    return lambda values: isinstance(values, list) and {type(value) for value in values} == {kind}


# Key -> whether its value is right, and what is.
RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "title": (
        lambda title: isinstance(title, str) and title.isprintable(),
        "must be text on one line (quote it)",
    ),
    "runs": (_are(str), "write a list of names"),
    "seeds": (_are(int), "write a list of numbers"),
    "epochs": (
        lambda share: type(share) in (int, float) and 0 < share <= 1,
        "must be a share above 0, at most 1",
    ),
    "train_images": (
        lambda images: type(images) is int and 0 <= images <= 50_000,
        "must be a whole number, 0 (all) to 50,000",
    ),
    "set": (
        lambda text: isinstance(text, str),
        'write text as for SET=, "03_train.batch_size=64 widths=[32,64]"',
    ),
    "judged_on": (lambda part: str(part) in JUDGED_ON, f"must be one of {', '.join(JUDGED_ON)}"),
}


def _check_values(tree: dict[str, Any], where: str) -> None:
    for key, value in tree.items():
        right, remedy = RULES[key]
        if not right(value):
            raise UserError(f"{where}: {key} = {value!r}: {remedy}")
        if isinstance(value, list) and len(set(value)) != len(value):
            raise UserError(f"{where}: {key} = {value!r}: names one of them twice")
    try:
        changes = params.parse_overrides(tree.get("set", ""))
    except UserError as error:
        raise UserError(f"{where}: set: {error}") from error
    for key in changes:
        if key.rpartition(".")[2] in (*SCALED, *PLANNED):
            remedy = "a plan says that with a key of its own, or scales it; leave it out"
            raise UserError(f"{where}: set: {key}: {remedy}")


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
        return [_scaled(element, share) for element in value]
    whole = isinstance(value, int) and value
    return max(1, round(value * share)) if whole else round(value * share, 4)


def find_job(plan: Plan, job: str) -> params.RunParameters:
    """Return the parameters of RUN@SEED; UserError where the plan has no such job."""
    if job not in plan.jobs():
        raise UserError(f"{job}: not in params/studies/{plan.name}.yaml{nearest(job, plan.jobs())}")
    run, _, seed = job.rpartition("@")
    return parameters_of(plan, run, int(seed))


def every_job(plan: Plan) -> dict[str, params.RunParameters]:
    """Return each RUN@SEED of a plan with its parameters, all checked; UserError."""
    return {job: find_job(plan, job) for job in plan.jobs()}
