"""The report's sentences: what they say of recipes that differ from quick's."""

import dataclasses
import json

import pytest

from lib import report
from lib.settings import Train


def metrics(**recipe) -> dict:
    settings = json.loads(json.dumps(dataclasses.asdict(Train(cutmix=0.0, **recipe))))
    return {"settings": settings, "data": {"train": 45000, "holdout": 5000}, "holdout": {"images": 5000},
            "tta": {"combination": "flip"}}  # fmt: skip


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({}, "45,000 images are trained on, 5,000 are held out"),
        ({}, "flipped with probability 0.5; no mixing of images. Stochastic"),
        ({}, "runs for 100 epochs under a cosine schedule from 0.1. The weights are the last epoch's."),
        ({}, "compared on 5,000 hold-out images, which fixed the choice (*flip*); the test set was looked at once"),
        ({"flip_mode": "alternating"}, "mirrored every other epoch"),
        ({"mixup": 0.25, "mixup_alpha": 0.2}, "mixup (Zhang et al., 2018) on 25% of the images, λ from Beta(0.2, 0.2)"),
        ({"trivial_augment": 0.5}, "TrivialAugment on 50%"),
        ({"ema": 0.999}, "The weights are averaged over the steps (decay 0.999)"),
        ({"phase2_epochs": 50}, "from 0.1, then 50 more under a cosine schedule from 0.01"),
        ({"audit": True}, "an audit, no result"),
    ],
)
def test_method_says_what_was_done(recipe, said):
    assert said in report.method(metrics(**recipe))


def test_without_a_holdout_the_views_come_from_the_parameters():
    told = metrics() | {"holdout": {"images": 0}}
    said = report.method(told)
    assert "augmentation were set by the parameter file (*flip*); the test set was looked at once" in said


def test_an_audit_does_not_claim_one_look():
    assert "looked at once" not in report.method(metrics(audit=True))
