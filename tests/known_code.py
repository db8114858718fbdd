"""Write bundle/training/known_code.json: the versions of the code whose bits are known.

`python -m tests.known_code BITS.json COMMIT` adds a commit, BITS.json being what
`python -m tests.golden` printed there; without arguments the code that is here is added, with the
bits in golden.json. Digests come from git.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bundle import fingerprint
from bundle.paths import ROOT
from bundle.training import code
from tests import golden

# The files whose SHA-256 trainings recorded before definitions were.
# fmt: off
OLD = (
    "augment", "average", "blocks", "compute", "data", "model", "optimise", "schedule", "settings",
    "state", "step", "train", "trivial",
)
# fmt: on


def source_at(commit: str, module: str) -> str | None:
    """Return a module's source at a commit, None where it had none."""
    name = f"{commit}:{module.replace('.', '/')}.py"
    shown = subprocess.run(["git", "show", name], cwd=ROOT, capture_output=True, check=False)
    return None if shown.returncode else shown.stdout.decode()


def digests_at(commit: str) -> dict[str, Any]:
    """Return what is known of a commit's code before lib and bundle were parted."""
    modules = {f"lib.{name}" for name in OLD} - set(fingerprint.DECIDES_NO_BITS)
    sources = {name: source_at(commit, f"lib.{name}") for name in OLD}
    hashes = {
        f"lib/{name}.py": hashlib.sha256(source.encode()).hexdigest()
        for name, source in sources.items()
    }
    found = fingerprint.reached(
        fingerprint.LOOP, modules.__contains__, lambda module: source_at(commit, module)
    )
    return {"files": fingerprint.of_value(hashes), "definitions": found}


def bits(recorded: dict[str, Any]) -> dict[str, str]:
    """Return for each precision one digest of the weights that all recipes ended with."""
    return {
        precision: fingerprint.of_value(
            {name: one["weights_sha256"] for name, one in found.items()}
        )
        for precision, found in recorded["AVX2"].items()
    }


def version(recorded: dict[str, Any], commit: str = "") -> dict[str, Any]:
    """Return the entry of a commit, or of the code that is here."""
    told = digests_at(commit) if commit else {"definitions": fingerprint.of_loop()}
    digest = fingerprint.of_value(told["definitions"])
    return {"commit": commit, "digest": digest, "bits": bits(recorded), **told}


def main(file: str = str(golden.FILE), commit: str = "") -> None:
    """Put one version into the table, in place of what it said of the same code."""
    added = version(json.loads(Path(file).read_text()), commit)
    table = json.loads(code.FILE.read_text()) if code.FILE.is_file() else []
    kept = [one for one in table if one["digest"] != added["digest"] or one["commit"] != commit]
    code.FILE.write_text(json.dumps([*kept, added], indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
