"""A network under shift, in tables and sentences: measured, recorded, beside what others report.

What is about a record takes the part "robustness" of a run's metrics; it is what `record` gives.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bundle import diagrams, words
from bundle.training import shift
from bundle.training.identity import Training
from lib.corrupt import CORRUPTIONS
from lib.data import Dataset
from lib.settings import Robustness

Record = dict[str, Any]


@dataclass(frozen=True)
class UnderShift(shift.Shift):
    """What was measured, and the reference's and others' figures that stand beside it."""

    reference: dict[str, Any] = field(default_factory=dict)

    @property
    def told(self) -> str:
        """Where the images come from, as a sentence."""
        if not self.given:
            return (
                f"The {len(self.names)} corruptions are made here, of {len(self.labels):,} images."
            )
        made = words.listed(diagrams.corruption(one) for one in self.names if one not in self.given)
        return (
            f"{len(self.given)} of {len(self.names)} corruptions are files of CIFAR-10-C in the "
            f"folder `CIFAR10C_ROOT`, {len(self.labels):,} images of each version"
            f"{f'; made here: {made}' if made else ''}."
        )

    def record(self, temperatures: NDArray) -> Record:
        """Return what is recorded, plain; `temperatures` (N,) of these images."""
        mean, gain, clean = self.mean(), self.gain(), self.clean_score
        rates = self.hits.mean(2)
        views = {"combination": self.combination, "severity": shift.AVERAGED_AT}
        views["images"] = self.averaged.shape[1]
        by_type = self.averaging().to_dict("index")
        return {
            "images": len(self.labels),
            "from_files": list(self.given),
            "clean": {"accuracy": clean.accuracy, "low": clean.low, "high": clean.high},
            "mean": {"accuracy": mean.size, "low": mean.low, "high": mean.high},
            "types": {name: row.tolist() for name, row in zip(self.names, rates, strict=True)},
            "averaged": {**views, "gain": gain._asdict(), "types": by_type},
            "trust": self.trust(temperatures).to_dict("records"),
            "noise": self.noise,
            "newer": self.newer and {"version": self.newer[0], **self.newer[1]._asdict()},
        }

    def beside(self, record: Record, name: str) -> pd.DataFrame:
        """Return clean accuracy and means over corruptions, this network first, then as published.

        Columns network, clean, "of 13", "of 7", fall (points, clean to 13 types).
        """
        known = self.reference["corruptions"]
        ours = {"network": name, "clean": record["clean"]["accuracy"]}
        ours |= {"of_13": mean_of(record, [*CORRUPTIONS]), "of_7": mean_of(record, known["seven"])}
        rows = [ours, *known["networks"]]
        columns = {
            "network": "network",
            "clean": "clean",
            "of_13": "of 13 types",
            "of_7": "of 7 types",
        }
        table = pd.DataFrame(rows)[list(columns)].rename(columns=columns)
        return table.assign(fall=100 * (table["of 13 types"] - table["clean"]))

    def profile(self, record: Record) -> tuple[pd.DataFrame, str]:
        """Return how far accuracy falls at each severity, here and as published; how near they are.

        In points below the clean accuracy; columns 1 to 5. The sentences give the mean distance and
        Spearman's rank correlation over all of them, and what the first convolution makes of noise.
        """
        known, rows = self.reference["corruptions"]["profile"], {}
        for name, published in known["accuracy"].items():
            falls = (
                (record["types"][name], record["clean"]["accuracy"]),
                (published, known["clean"]),
            )
            for whose, (values, clean) in zip(("here", "published"), falls, strict=True):
                rows[f"{diagrams.corruption(name)}, {whose}"] = 100 * (np.array(values) - clean)
        table = pd.DataFrame.from_dict(rows, orient="index", columns=[1, 2, 3, 4, 5])
        here, there = (table.to_numpy()[start::2].ravel() for start in (0, 1))
        rank = f"{pd.Series(here).corr(pd.Series(there), method='spearman'):.2f}".replace("-", "−")
        apart = np.abs(here - there).mean()
        near = (
            f"Over these {len(here)} falls this network and the published one ({known['network']}) "
            f"are {apart:.1f} points apart on average; Spearman's rank correlation is {rank}."
        )
        return table, f"{near} {noise(record)}".strip()

    def findings(self, record: Record) -> str:
        """Return what was found, as a Markdown list."""
        hardest = f"It loses most under {worst(record)}, at a mean over the severities."
        said = (in_short(record), hardest, views(record), trusted(record), newer(record))
        return "\n".join(f"- {text}" for text in said if text)


def measured(
    training: Training | None,
    dataset: Dataset,
    settings: Robustness,
    combination: str,
    reference: dict[str, Any],
    show: shift.Show,
) -> UnderShift | None:
    """Return `shift.measure` as UnderShift, None for a training without its network."""
    if training is None or training.model is None:
        return None
    chosen = combination if combination != "original" else "flip"
    found = shift.measure(training, dataset, settings, chosen, show)
    return UnderShift(**vars(found), reference=reference)


# A record beside others


def mean_of(record: Record, names: tuple[str, ...] | list[str]) -> float:
    """Return the mean accuracy over some corruptions and all severities."""
    return float(np.mean([record["types"][name] for name in names]))


# Sentences


def worst(record: Record, count: int = 3) -> str:
    """Return the corruptions with the lowest means, as a list with their accuracies."""
    means = {name: float(np.mean(values)) for name, values in record["types"].items()}
    lowest = sorted(means, key=means.__getitem__)[:count]
    return words.listed(f"{diagrams.corruption(name)} ({means[name]:.1%})" for name in lowest)


def in_short(record: Record) -> str:
    """Return the mean under corruption beside the clean accuracy, as a sentence."""
    mean, clean = record["mean"], record["clean"]["accuracy"]
    return (
        f"Over {len(record['types'])} corruptions at five severities the accuracy is "
        f"**{mean['accuracy']:.1%}** on average (95% interval {mean['low']:.1%} to "
        f"{mean['high']:.1%}), on the same {record['images']:,} images without them "
        f"**{clean:.1%}**: {words.points(100 * (mean['accuracy'] - clean), 1)} points."
    )


def views(record: Record) -> str:
    """Return what averaged views change under corruption, as a sentence."""
    told, gain = record["averaged"], record["averaged"]["gain"]
    helps = (
        "help" if gain["low"] > 0 else "harm" if gain["high"] < 0 else "make no clear difference"
    )
    change = words.difference(gain["size"], gain["low"], gain["high"], digits=1)
    return (
        f"Averaged views ({told['combination'].replace('_', ' ')}) **{helps}** at severity "
        f"{told['severity']}: {change} on average, on "
        f"{told.get('images', record['images']):,} images of each."
    )


def trusted(record: Record) -> str:
    """Return how calibration fares as the shift grows, as a sentence; "" for few images."""
    if record["images"] < 500:  # the error of fewer, over 15 bins, is mostly chance
        return ""
    trust = [(100 * row["ece_after"], 100 * row["ece"]) for row in record["trust"]]
    return (
        "With a temperature fitted on other clean images (Guo et al., 2017) the expected "
        f"calibration error is {trust[0][0]:.1f} points on those of the test and "
        f"{trust[5][0]:.1f} at severity 5; without it {trust[0][1]:.1f} and {trust[5][1]:.1f}."
    )


def noise(record: Record) -> str:
    """Return what the first convolution makes of noise, as a sentence; "" in older records."""
    if not (told := record.get("noise")):
        return ""
    before, after = told
    changed = (
        "amplifies" if after > 1.5 * before else "dampens" if after < before / 1.5 else "keeps"
    )
    return (
        f"The network's first convolution {changed} noise: in the pixels, Gaussian noise of "
        f"severity 1 has {before:.3f} times the images' variance, behind it {after:.3f} times."
    )


def newer(record: Record) -> str:
    """Return the accuracy on CIFAR-10.1 as a sentence, "" where the user has no files of it."""
    if not (told := record.get("newer")):
        return ""
    return f"On CIFAR-10.1 {told['version']} ({told['images']:,} images): {words.accuracy(told)}."


# The report's section


def rates(record: Record) -> pd.DataFrame:
    """Return accuracies, a row a corruption named for reading, a column a severity."""
    named = {diagrams.corruption(name): values for name, values in record["types"].items()}
    return pd.DataFrame.from_dict(named, orient="index", columns=[1, 2, 3, 4, 5])


def under_shift(record: Record, reference: dict[str, Any]) -> str:
    """Return the report's paragraph on the shift, with what others report on the same types."""
    known = {row["network"]: row["of_13"] for row in reference["corruptions"]["networks"]}
    told = words.listed(f"{network} {mean:.1%}" for network, mean in known.items())
    source = "files of CIFAR-10-C" if record["from_files"] else "made here as those of CIFAR-10-C"
    said = (
        in_short(record),
        f"They are {source} (Hendrycks and Dietterich, 2019).",
        views(record),
        trusted(record),
        f"Others report, over the same {len(CORRUPTIONS)} types: {told}.",
        newer(record),
    )
    return " ".join(filter(None, said))


def most_lost(record: Record) -> str:
    """Return what the heat map of a record shows, as a sentence."""
    return (
        f"Most is lost under {worst(record, 2)}; clean images: {record['clean']['accuracy']:.1%}."
    )
