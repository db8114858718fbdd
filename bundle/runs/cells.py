"""The notebooks by name, and the parameters that each declares in its tagged cell."""

import ast
import json
import re
from typing import Any

from bundle import paths
from bundle.inputs import read_text
from lib.errors import UserError


def notebooks() -> list[str]:
    """Return the notebooks' names, sorted (two digits, underscore, words).

    Others, such as the copy 03_train-Copy1, are no part of a run; graph.nodes has them in order.
    """
    files = paths.NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")
    return sorted(path.stem for path in files if re.fullmatch(r"\d\d_\w+", path.stem, re.ASCII))


def parameter_cell(notebook: str) -> dict[str, Any]:
    """Return the names and default values of the notebook's one cell tagged ``parameters``.

    Read with `ast`, so nothing is executed. Raises UserError where the cell is missing, doubled, or
    holds anything but assignments of literals.
    """
    path = paths.NOTEBOOKS / f"{notebook}.ipynb"
    where, defaults = paths.shown(path), dict[str, Any]()
    text = read_text(path, where)
    try:
        cells = json.loads(text)["cells"]
        tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        remedy = f"not a readable notebook ({error}); restore it with git"
        raise UserError(f"{where}: {remedy}") from error
    if len(tagged) != 1:
        raise UserError(f"{where}: {len(tagged)} cells tagged 'parameters'; it needs exactly one")
    try:
        for line in ast.parse("".join(tagged[0]["source"])).body:
            defaults |= _assigned(line)
    except (SyntaxError, ValueError, TypeError, RecursionError) as error:
        remedy = f"the parameters cell may hold literals only ({error})"
        raise UserError(f"{where}: {remedy}") from error
    return defaults


def _assigned(line: ast.stmt) -> dict[str, Any]:
    """Return name and literal of an assignment; ValueError for anything else."""
    if isinstance(line, ast.Assign | ast.AnnAssign) and line.value:
        target = line.target if isinstance(line, ast.AnnAssign) else line.targets[0]
        if isinstance(target, ast.Name):
            return {target.id: ast.literal_eval(line.value)}
    raise ValueError(f"not {ast.unparse(line)[:60]!r}")
