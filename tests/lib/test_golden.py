"""The bits of tiny trainings, held against those recorded for this kind of processor."""

import json

import pytest

from tests import golden

RECORDED = json.loads(golden.FILE.read_text())
TOLERANCE = {"fp32": 1e-4, "bf16": 5e-2}  # on a kind of processor whose bits were not recorded


@pytest.fixture(scope="module", params=golden.PRECISIONS)
def found(request, tmp_path_factory):
    """Return the precision and the values of all recipes, trained by the code that is here."""
    folder = tmp_path_factory.mktemp(request.param)
    trainings = {recipe: golden.trained(recipe, request.param, folder) for recipe in golden.RECIPES}
    return request.param, {
        recipe: golden.values(training) for recipe, training in trainings.items()
    }


@pytest.mark.slow
def test_training_ends_with_the_recorded_bits(found):
    """On a kind of processor that is not in golden.json the figures must agree, within rounding."""
    precision, now = found
    known = RECORDED.get(golden.machine())
    for recipe, values in now.items():
        if known:
            assert values["weights_sha256"] == known[precision][recipe]["weights_sha256"], recipe
        nearest = (known or RECORDED["AVX2"])[precision][recipe]
        for name in ("loss", "holdout_loss"):
            assert values[name] == pytest.approx(nearest[name], abs=TOLERANCE[precision]), (
                recipe,
                name,
            )
        assert values["norm"] == pytest.approx(nearest["norm"], rel=TOLERANCE[precision]), recipe


def test_recipes_use_every_ingredient():
    """Each parameter that changes the weights has another value than its default in some recipe."""
    import dataclasses

    from lib.settings import Train

    elsewhere = {
        "run",
        "seed",
        "device",
        "precision",
        "threads",
        "compile",
        "deterministic",
        "comparison",
    }
    plain = {
        # Newer than the versions whose bits are recorded; tests/lib has a test of each.
        "half_resolution",
        "augmix",
        "muon_steps",
        "stem_bias_epochs",
        "gamma",
        "temperature",
        "erasing",
        "erasing_scale",
        "blur_sigma",
        "mixup_alpha",
        "horizontal_flip",
        "muon_momentum",
    }
    changed = {key for recipe in golden.RECIPES.values() for key in {**golden.COMMON, **recipe}}
    missing = {field.name for field in dataclasses.fields(Train)} - elsewhere - plain - changed
    assert not missing
