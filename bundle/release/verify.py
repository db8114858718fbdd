"""Train a run again from nothing, compare with results/RUN: ``python -m bundle verify RUN``.

On the same device kind, CPU capability, precision, threads and versions the weights must agree bit
for bit; elsewhere the test accuracy must agree within a stated tolerance. Exit code 0 says they do,
1 that they do not.
"""

import math
import shutil
from collections.abc import Callable
from typing import Any

from bundle import files, fingerprint, paths
from bundle.dataset import cifar10
from bundle.runs import params, results
from bundle.training import alike, code, identity, outcome, progress, session, store
from lib import compute, data
from lib.errors import UserError

# Of the difference of two accuracies: what two trainings may differ by elsewhere.
STANDARD_ERRORS = 3


def recorded(parameters: params.RunParameters) -> dict[str, Any]:
    """Return the metrics of a finished run; UserError if unfinished or of other parameters."""
    where = f"results/{parameters.name}/metrics.json"
    again = f"{files.run_again(parameters.name)} first"
    metrics = results.read_metrics(parameters.name)
    if "test" not in metrics or "train" not in metrics:
        raise UserError(f"{where}: no finished run there to verify; {again}")
    wanted = alike.parameters_of(parameters.settings("03_train"))
    there, wanted = map(alike.with_defaults, (metrics["settings"], wanted))
    if differing := fingerprint.differences(there, wanted):
        names = ", ".join(differing[:4])
        raise UserError(f"{where}: made with other parameters ({names}); {again}")
    return metrics


def tolerance(accuracy: float, images: int) -> float:
    """Return how far two trainings' test accuracies may lie apart: 3 sqrt(2 p (1 - p) / n).

    Three standard errors of the difference of two independent proportions p measured on n images.
    """
    return STANDARD_ERRORS * math.sqrt(2 * accuracy * (1 - accuracy) / images)


def differing_machine(metrics: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return what of the machine differs from the recorded, [] where the bits must be the same."""
    exact = now["deterministic"] and metrics["environment"]["deterministic"]
    found = identity.machine_differences(metrics["environment"], now)
    return found + ([] if exact else ["deterministic: false"])


def test_accuracy(
    training: identity.Training, dataset: data.Dataset, parameters: params.RunParameters
) -> float:
    """The single-view accuracy on the images, in the precision, that 04_predict_tta uses."""
    settings = parameters.settings("04_predict_tta")
    images, device = data.subset(dataset.test, settings.test_images), compute.prepare(settings)
    precision = compute.precision_of(settings, device)
    statistics, model = dataset.normalisation(training.normalisation), training.network.to(device)
    return outcome.single_view(model, images, statistics, precision, settings.batch_size)[
        "accuracy"
    ]


def verify(parameters: params.RunParameters, say: Callable[[str], None] = print) -> bool:
    """Train again into results/RUN/verify (going on where stopped), compare, say what was found."""
    metrics, folder = recorded(parameters), paths.results(parameters.name) / "verify"
    settings, name = parameters.settings("03_train"), parameters.name
    dataset = cifar10.load(settings.dataset, settings.train_images, settings.holdout)
    if dataset.checksum != metrics["data_checksum"]:
        remedy = "put those in place (make data, CIFAR10_ROOT)"
        other = f"made with other data than the {dataset.name} images here"
        raise UserError(f"results/{name} was {other}: {remedy}")
    training = session.train(settings, dataset, folder, progress.print_epoch)
    # A released training is held against the weights it had before they were rounded.
    old = (metrics["train"].get("released") or metrics["train"])["weights_sha256"]
    new, rule = training.summary["weights_sha256"], "bit for bit"
    is_same = is_verified = old == new
    now, was = test_accuracy(training, dataset, parameters), metrics["test"]["accuracy"]
    if machine := differing_machine(metrics, training.summary["compute"]):
        allowed = tolerance(was, metrics["test"]["images"])
        is_verified = abs(now - was) <= allowed
        rule = f"within {allowed:.2%} (the bits may differ: {', '.join(machine[:3])})"
    compared = "the same" if is_same else "different"
    say(f"weights        SHA-256 recorded {old[:16]}, now {new[:16]}: {compared}")
    say(f"test accuracy  recorded {was:.2%}, now {now:.2%}")
    say(f"{name}: {'verified' if is_verified else 'NOT reproduced'}, {rule}")
    if is_same and not machine:
        code.record(store.complete_folder(folder.parent))
    if is_verified:
        shutil.rmtree(folder)
    return is_verified
