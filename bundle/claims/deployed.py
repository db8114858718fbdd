"""The claim on edge devices, judged by what notebook 08 measured on full trainings."""

from typing import Any

from bundle.claims.claim import PENDING, Finding, Reference, decided, named
from bundle.report import device
from bundle.words import listed, points

Runs = dict[str, dict[str, Any]]  # name -> metrics of a full run
AT_ONCE = 0.1  # seconds: what a person takes for immediate (Nielsen, Usability Engineering, 1993)


def edge_devices(reference: Reference, tolerance: float, runs: Runs) -> Finding:
    """The accuracy that eight bits cost, and the time of an image on a small computer."""
    facts, tiny = reference["edge_devices"], reference["mlperf_tiny"]
    undone = [key for key in ("exported", "measured", "quantised") if not facts[key]]
    computer = next(board for board in tiny["boards"] if board["kind"] == "computer")
    rule = (
        f"The report names such devices {facts['mentions']} times; nothing was "
        f"{' or '.join(undone)}. Confirmed where eight bits cost at most {100 * tolerance:g} "
        f"points (the whole 95% interval) and an image of the reference's network takes at most "
        f"{AT_ONCE:g} s on a {computer['board']} ({device.ESTIMATE}, from MLPerf Tiny)."
    )
    measured = {name: device.measured(metrics) for name, metrics in runs.items()}
    deployed = {name: found for name, found in measured.items() if found}
    if not deployed:
        missing = "waits for notebook 08 on a training at full length"
        return Finding(PENDING, f"Not yet judged: {missing}.", rule)
    losses = {name: device.loss(found) for name, found in deployed.items()}
    first = next(iter(deployed.values()))
    seconds = device.seconds_on(computer, tiny, first["reference_mmac"])
    keeps = all(loss.low >= -tolerance for loss in losses.values()) and seconds <= AT_ONCE
    fails = any(loss.high < -tolerance for loss in losses.values()) or seconds > AT_ONCE
    return Finding(decided(keeps, fails), _found(losses, first, tiny, seconds, computer), rule)


def _found(losses: dict, deployed: dict, tiny: dict, seconds: float, computer: dict) -> str:
    changes = listed(f"{points(100 * loss.size)} ({name})" for name, loss in losses.items())
    kilobytes = device.of_reference(deployed)["int8"]["bytes"] / device.KB
    small = next(board for board in tiny["boards"] if board["kind"] == "microcontroller")
    room = "fits" if kilobytes < small["storage_kb"] else "does not fit"
    return (
        f"On a {computer['board']} an image takes some {device.time(seconds)}, and eight bits "
        f"change the accuracy by {changes} points. The reference's network then has "
        f"{device.size(kilobytes)}, which {room} into the {device.size(small['storage_kb'])} of a "
        f"{small['board']}, a microcontroller."
    )


TESTS = named(edge_devices)
