"""Train a run again from nothing, compare with results/RUN: ``python -m bundle verify RUN``.

On the same device kind, CPU capability, precision, threads and versions the weights must agree bit
for bit; elsewhere the test accuracy must agree within a stated tolerance. Exit code 0 says they do,
1 that they do not.
"""

import math
import shutil
from typing import Any

from bundle import fingerprint, paths
from bundle.dataset import cifar10
from bundle.runs import params, results
from bundle.training import code, identity, outcome, progress, session, store
from lib import compute, data
from lib.errors import UserError

# Of the difference of two accuracies: what two trainings may differ by elsewhere.
STANDARD_ERRORS = 3


def recorded(parameters: params.RunParameters) -> dict[str, Any]:
    """Return the metrics of a finished run; UserError if unfinished or of other parameters."""
    where = f"results/{parameters.name}/metrics.json"
    found = results.read_metrics(parameters.name)
    if "test" not in found or "train" not in found:
        raise UserError(
            f"{where}: no finished run there to verify; make run-all RUN={parameters.file} first"
        )
    wanted = parameters.settings("03_train")
    differing = fingerprint.differences(
        identity.with_defaults(found["settings"]),
        identity.with_defaults(identity.parameters_of(wanted)),
    )
    if differing:
        raise UserError(
            f"{where}: made with other parameters ({', '.join(differing[:4])}); "
            f"make run-all RUN={parameters.file} first"
        )
    return found


def tolerance(accuracy: float, images: int) -> float:
    """Return how far two trainings' test accuracies may lie apart: 3 sqrt(2 p (1 - p) / n).

    Three standard errors of the difference of two independent proportions p measured on n images.
    """
    return STANDARD_ERRORS * math.sqrt(2 * accuracy * (1 - accuracy) / images)


def differing_machine(found: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return what of the machine differs from the recorded, [] where the bits must be the same."""
    environment = {key: found["environment"].get(key) for key in now}
    exact = (
        [] if now["deterministic"] and environment["deterministic"] else ["deterministic: false"]
    )
    return fingerprint.differences(environment, now) + exact


def test_accuracy(
    training: identity.Training, dataset: data.Dataset, parameters: params.RunParameters
) -> float:
    """The single-view accuracy on the images, in the precision, that 04_predict_tta uses."""
    settings = parameters.settings("04_predict_tta")
    images, device = data.subset(dataset.test, settings.test_images), compute.prepare(settings)
    precision = compute.precision_of(settings, device)
    statistics, model = dataset.normalisation(training.normalisation), training.model.to(device)
    return outcome.single_view(model, images, statistics, precision, settings.batch_size)[
        "accuracy"
    ]


def verify(parameters: params.RunParameters, say=print) -> bool:
    """Train again into results/RUN/verify (going on where stopped), compare, say what was found."""
    found, settings = recorded(parameters), parameters.settings("03_train")
    dataset = cifar10.load(settings.dataset, settings.train_images, settings.holdout)
    if dataset.checksum != found["data_checksum"]:
        raise UserError(
            f"results/{parameters.name} was made with other data than the {dataset.name} images "
            "here: put those in place (make data, CIFAR10_ROOT)"
        )
    folder = paths.results(parameters.name) / "verify"
    training = session.train(settings, dataset, folder, progress.print_epoch)
    accuracy, was = test_accuracy(training, dataset, parameters), found["test"]["accuracy"]
    # A released training is held against the weights it had before they were rounded.
    old, new = (
        (found["train"].get("released") or found["train"])["weights_sha256"],
        training.summary["weights_sha256"],
    )
    machine = differing_machine(found, training.summary["compute"])
    allowed = 0.0 if not machine else tolerance(was, found["test"]["images"])
    same = old == new if not machine else abs(accuracy - was) <= allowed
    say(
        f"weights        SHA-256 recorded {old[:16]}, now {new[:16]}: "
        f"{'the same' if old == new else 'different'}"
    )
    say(f"test accuracy  recorded {was:.2%}, now {accuracy:.2%}")
    rule = (
        f"within {allowed:.2%} (another machine: {', '.join(machine[:3])})"
        if machine
        else "bit for bit"
    )
    say(f"{parameters.name}: {'verified' if same else 'NOT reproduced'}, {rule}")
    if same and not machine:
        code.record(store.complete_folder(folder.parent))
    if same:
        shutil.rmtree(folder)
    return same
