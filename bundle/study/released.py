"""The pages of released studies, rendered anew from their study.json, which stays as it is."""

import shutil
from pathlib import Path

from bundle import files, paths
from bundle.study import page
from lib.errors import UserError

STUDIES = "studies/"  # begins the name of a released study, as its folder in results/released/


def names() -> list[str]:
    """Return the released studies: studies/NAME."""
    found = (paths.RESULTS / "released" / "studies").glob("*/study.json")
    return sorted(f"{STUDIES}{path.parent.name}" for path in found)


def render(name: str) -> Path:
    """Render results/released/studies/NAME anew, whole, or leave it as it was; return its folder.

    Raises UserError where no such study is released.
    """
    target = paths.RESULTS / "released" / name
    if not (target / "study.json").is_file():
        remedy = f"make release-study PLAN={target.name} makes one"
        raise UserError(f"results/released/{name}: no released study there; {remedy}")
    stage = paths.RESULTS / f".rendering-{target.name}"
    with files.staged(stage, target):
        shutil.copytree(target, stage)
        page.write_again(stage)
    return target
