"""The report's sentences: what they say of recipes that differ from quick's."""

import dataclasses
import json

import pytest

from bundle.report import sentences
from lib.settings import Train


def metrics(**recipe) -> dict:
    settings = json.loads(json.dumps(dataclasses.asdict(Train(cutmix=0.0, **recipe))))
    return {
        "settings": settings,
        "data": {"train": 45000, "holdout": 5000},
        "holdout": {"images": 5000},
        "tta": {"combination": "flip"},
    }


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({}, "45,000 images are trained on, 5,000 are held out"),
        (
            {},
            "4 pixels of padding by zeros and flipped with probability 0.5; no mixing of images. "
            "Stochastic",
        ),
        (
            {"crop_mode": "reflect", "vertical_flip": 0.05, "erasing": 0.5},
            "by reflection and flipped with probability 0.5, "
            "turned upside down with probability 0.05, a part erased with probability 0.5; no",
        ),
        ({"blur": 0.3}, "blurred with probability 0.3 (kernel 3, sigma 0.1 to 1.5)"),
        (
            {"nesterov": True},
            "descent with Nesterov momentum 0.9 (weight decay 0.0005, batch 128) runs",
        ),
        (
            {"optimiser": "muon"},
            "momentum 0.6) for the convolutions and stochastic gradient descent with momentum 0.9",
        ),
        ({"warmup_epochs": 5.0}, "schedule from 0.1 after 5 epochs of warm-up."),
        ({"schedule": "one_cycle"}, "under a one-cycle schedule from 0.1. The"),
        (
            {"phase2_epochs": 50, "phase2_erasing": 0.5},
            "from 0.01, the images now a part erased with probability 0.5.",
        ),
        (
            {},
            "runs for 100 epochs under a cosine schedule from 0.1. The weights are the last "
            "epoch's.",
        ),
        (
            {},
            "compared on 5,000 hold-out images, which fixed the choice (*flip*); the test set "
            "was looked at once",
        ),
        ({"flip_mode": "alternating"}, "mirrored every other epoch"),
        (
            {"mixup": 0.25, "mixup_alpha": 0.2},
            "mixup (Zhang et al., 2018) on 25% of the images, λ from Beta(0.2, 0.2)",
        ),
        ({"trivial_augment": 0.5}, "TrivialAugment on 50%"),
        ({"ema": 0.999}, "The weights are averaged over the steps (decay 0.999)"),
        ({"phase2_epochs": 50}, "from 0.1, then 50 more under a cosine schedule from 0.01"),
        ({"audit": True}, "an audit, no result"),
    ],
)
def test_method_says_what_was_done(recipe, said):
    assert said in sentences.method(metrics(**recipe))


def test_without_a_holdout_the_views_come_from_the_parameters():
    told = metrics() | {"holdout": {"images": 0}}
    said = sentences.method(told)
    assert (
        "augmentation were set by the parameter file (*flip*); the test set was looked at once"
        in said
    )


def test_no_holdout_is_not_told():
    assert "trained on. Images" in sentences.method(
        metrics() | {"data": {"train": 50000, "holdout": 0}}
    )


def test_another_network_is_no_reproduction():
    told = {
        "seed": 42,
        "notice": "",
        "parameters": 10,
        "reference_network": {"parameters": 10},
        "environment": {},
        "train": {"stale": []},
    }
    assert "no reproduction" not in sentences.scope(told)
    assert "no reproduction" in sentences.scope(told | {"parameters": 11})


def test_an_audit_does_not_claim_one_look():
    assert "looked at once" not in sentences.method(metrics(audit=True))
