"""A network on a small device, in sentences and tables: what notebook 08 measured, others beside.

`deployed` is what its metrics hold under "deploy"; "missing" in it says why nothing was measured.
"""

from typing import Any

import pandas as pd

from bundle import words
from bundle.effects import Effect, paired
from lib.layers import layer_table
from lib.model import ResNet

MB, KB = 1e6, 1e3
TRAINED = "as_written"  # the run whose network is the reference's
ESTIMATE = "an estimate: in proportion to the multiply-accumulates"


def measured(metrics: dict[str, Any]) -> dict[str, Any] | None:
    """Return what a run's metrics hold of its deployment, None where nothing was measured."""
    deployed = metrics.get("deploy") or {}
    return deployed if deployed.get("forms") else None


def own(deployed: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return form -> row of the run's own network, "fp32" and "int8"."""
    return {row["form"]: row for row in deployed["forms"] if "accuracy" in row}


def of_reference(deployed: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return form -> row of the reference's network, the run's own where that is the same."""
    others = {row["form"]: row for row in deployed["forms"] if "accuracy" not in row}
    return others or own(deployed)


def loss(deployed: dict[str, Any]) -> Effect:
    """Return the accuracy of int8 minus that of fp32 on the same images."""
    row = own(deployed)["int8"]
    return paired(row["mcnemar"]["only_second"], row["mcnemar"]["only_first"], row["images"])


def table(deployed: dict[str, Any], runs: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Return one row of text a file: size, accuracy, speed, memory.

    Of the reference's network, untrained here, the accuracy is that of TRAINED, if `runs` has it.
    """
    trained = own(runs.get(TRAINED, {"forms": []}))
    rows = [
        trained[row["form"]] | row | {"network": f"the reference's network, trained: {TRAINED}"}
        if "accuracy" not in row and trained
        else row
        for row in deployed["forms"]
    ]
    return pd.DataFrame(map(_row, rows))


def _row(row: dict[str, Any]) -> dict[str, str]:
    return {
        "network": row["network"],
        "form": row["form"],
        "file (MB)": f"{row['bytes'] / MB:.2f}",
        "accuracy": words.accuracy(row) if "accuracy" in row else words.NONE,
        "p": words.p_value(row["mcnemar"]["p"]) if "mcnemar" in row else words.NONE,
        "one image (ms)": f"{1e3 * row['median_s']:.2f}",
        "90% within (ms)": f"{1e3 * row['p90_s']:.2f}",
        "images per second": f"{row['images_per_second']:,.0f}",
        "memory (MB)": f"{row['peak_bytes'] / MB:.1f}",
    }


def short_table(deployed: dict[str, Any]) -> pd.DataFrame:
    """Return the run's own rows for the report: form, size, accuracy, time of an image."""
    kept = ["form", "file (MB)", "accuracy", "one image (ms)", "90% within (ms)"]
    return pd.DataFrame([_row(row) for row in own(deployed).values()])[kept]


def eight_bits(deployed: dict[str, Any]) -> str:
    """Return in two sentences what eight bits change: size and accuracy, then the time."""
    fp32, int8 = (own(deployed)[form] for form in ("fp32", "int8"))
    change, faster = words.difference(*loss(deployed)), fp32["median_s"] / int8["median_s"]
    bits = deployed.get("weight_bits", 8)
    narrow = "" if bits == 8 else f" (weights of {bits} bits, as this processor multiplies them)"
    return (
        f"In eight bits{narrow} the network's file has {size(int8['bytes'] / KB)} instead of "
        f"{size(fp32['bytes'] / KB)}, and its accuracy changes by {change}. "
        f"An image takes {1e3 * int8['median_s']:.1f} ms instead "
        f"of {1e3 * fp32['median_s']:.1f} on one thread of this machine's processor "
        f"({faster:.1f} times as fast), which is no small device."
    )


def small_mmac(tiny: dict[str, Any]) -> float:
    """Return the million multiply-accumulates of MLPerf Tiny's network, built here."""
    network = ResNet(tiny["blocks"], tiny["widths"], tiny["strides"])
    return float(layer_table(network)["mmac"].sum())


def seconds_on(board: dict[str, Any], tiny: dict[str, Any], mmac: float) -> float:
    """Return the seconds an image of a network of `mmac` on a board: ESTIMATE."""
    return board["seconds"] / board["inferences"] * mmac / small_mmac(tiny)


def boards(deployed: dict[str, Any], tiny: dict[str, Any]) -> pd.DataFrame:
    """Return MLPerf Tiny's boards as reported, and what this network would need there, as text."""
    int8, rows = own(deployed)["int8"], []
    for board in tiny["boards"]:
        seconds = board["seconds"] / board["inferences"]
        rows.append(
            {
                "board": f"{board['board']} ({board['processor']})",
                "storage": size(board["storage_kb"]),
                "memory": size(board["memory_kb"]),
                f"{tiny['network']}: accuracy": words.percent(board["accuracy"]),
                f"{tiny['network']}: one image": time(seconds),
                "this file fits": "yes" if int8["bytes"] < KB * board["storage_kb"] else "no",
                "one image (estimate)": time(seconds_on(board, tiny, deployed["mmac"])),
            }
        )
    return pd.DataFrame(rows)


def fits(deployed: dict[str, Any], tiny: dict[str, Any]) -> str:
    """Return in a sentence on which of MLPerf Tiny's boards the eight bits have room."""
    size_kb = own(deployed)["int8"]["bytes"] / KB
    kinds = {board["kind"]: board for board in tiny["boards"]}
    small, large = kinds["microcontroller"], kinds["computer"]
    room = "has room" if size_kb < small["storage_kb"] else "has no room"
    times = [time(seconds_on(board, tiny, deployed["mmac"])) for board in (small, large)]
    return (
        f"The storage of MLPerf Tiny's microcontrollers ({size(small['storage_kb'])}) {room} for "
        f"its {size(size_kb)}; an image would take some {times[0]} on the {small['board']} and "
        f"{times[1]} on a {large['board']} ({ESTIMATE})."
    )


def size(kilobytes: float) -> str:
    """Return a size with its unit: "640 kB", "4.8 MB", "4 GB"."""
    for unit, scale in (("GB", 1e6), ("MB", 1e3)):
        if kilobytes >= scale:
            return f"{float(f'{kilobytes / scale:.2g}'):g} {unit}"
    return f"{kilobytes:.0f} kB"


def time(seconds: float) -> str:
    """Return a time with two digits: "704 ms", "15 s"."""
    return f"{seconds:.2g} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"
