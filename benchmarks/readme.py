"""Put measurements into docs/speed.md: ``python -m benchmarks.readme``.

What ``make bench`` left in results/bench/ is copied to benchmarks/results/, which is committed, and
the table is written from all that lies there; a rehearsal never gets in.
"""

import shutil
from typing import Any

from benchmarks import picture, table
from benchmarks.machine import words
from benchmarks.run import FOLDER
from bundle import paths
from bundle.files import read_json
from bundle.readme import put
from bundle.words import markdown
from lib.errors import UserError, exit_on_user_error

KEPT = paths.ROOT / "benchmarks" / "results"


def keep() -> None:
    """Copy each machine's file from results/bench/ to benchmarks/results/ and draw its figure."""
    KEPT.mkdir(exist_ok=True)
    for path in sorted(FOLDER.glob("*.json")):
        found = read_json(path)
        if not found["rehearsal"]:
            shutil.copyfile(path, KEPT / path.name)
            picture.save(found, KEPT / path.stem)


def summary(machines: list[dict[str, Any]]) -> str:
    """Return one table: a row for each measurement, a column for each machine."""
    columns = [dict(table.rows(found)) for found in machines]
    fullest = sorted(columns, key=len, reverse=True)  # its order; some machines have few rows
    labels = list(dict.fromkeys(label for column in fullest for label in column))
    heading = ["", *(words(found["machine"]) for found in machines)]
    body = [[label, *(column.get(label, "") for column in columns)] for label in labels]
    return markdown([heading, *body])


def main() -> int:
    """Replace the table in docs/speed.md."""
    keep()
    machines = [read_json(path) for path in sorted(KEPT.glob("*.json"))]
    if not machines:
        raise UserError("no measurements in results/bench/ or benchmarks/results/: make bench")
    put(summary(machines), "benchmarks")
    return 0


if __name__ == "__main__":
    exit_on_user_error(main)
