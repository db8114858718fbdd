"""The notebooks as a graph: each names in metadata (key ``bundle``) what it reads and writes."""

import ast
import json
from dataclasses import dataclass

from bundle import fingerprint, paths
from bundle.inputs import read_text
from bundle.runs.params import notebooks
from lib.errors import UserError

LABELS = {  # short names, for the terminal and the pages
    "01_explore_data": "Data",
    "02_build_model": "Network",
    "03_train": "Training",
    "04_predict_tta": "Prediction",
    "05_confusion": "Mistakes",
    "06_report": "Report",
    "07_robustness": "Robustness",
    "08_deploy": "Deployment",
}
# Of a notebook's metadata, lists of names.
KEYS = ("reads", "writes", "shared", "optional", "variables")


@dataclass(frozen=True)
class Node:
    """One notebook: what it reads and writes in results/RUN, reads of the bundle, and its code."""

    name: str
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    # Files of the bundle, no run's own; they need not be there, * matches.
    shared: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()  # packages that it uses where they are installed
    cells: tuple[tuple[str, str], ...] = ()  # (type, source)
    variables: tuple[str, ...] = ()  # of the environment, that name files outside the bundle

    @property
    def metrics(self) -> str:
        """The part of the metrics that the notebook records."""
        return f"metrics/{self.name}.json"

    def code(self) -> dict[str, str]:
        """Return definition -> digest of the code that the notebook reaches, and what shows it."""
        return fingerprint.of_cells("\n".join(text for kind, text in self.cells if kind == "code"))


def read(name: str) -> Node:
    """Return the node of a notebook."""
    path = paths.NOTEBOOKS / f"{name}.ipynb"
    text = read_text(path, paths.shown(path))
    try:
        notebook = json.loads(text)
        declared = notebook["metadata"].get("bundle", {})
        cells = tuple((cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"])
        files = {key: tuple(declared.get(key, ())) for key in KEYS}
        ast.parse("\n".join(source for kind, source in cells if kind == "code"))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        remedy = f"not a readable notebook ({error}); restore it with git"
        raise UserError(f"{paths.shown(path)}: {remedy}") from error
    except SyntaxError as error:
        remedy = f"a code cell is not Python ({error}); mend it"
        raise UserError(f"{paths.shown(path)}: {remedy}") from error
    return Node(name, cells=cells, **files)


def nodes() -> list[Node]:
    """Return all notebooks in the order they run: after all whose files they read, then by name.

    So the report runs last, whatever its number. UserError: notebooks that read in a circle.
    """
    waiting, order = [read(name) for name in notebooks()], []
    while waiting:
        writer = {file: node for node in waiting for file in (*node.writes, node.metrics)}
        ready = [node for node in waiting if all(writer.get(f, node) is node for f in node.reads)]
        if not ready:
            circle = ", ".join(node.name for node in waiting)
            remedy = "mend 'reads' in their metadata"
            raise UserError(f"notebooks/: {circle} read in a circle what they write: {remedy}")
        order.append(ready[0])
        waiting.remove(ready[0])
    return order


def label(notebook: str) -> str:
    """Return a notebook's short name: ``05_confusion`` is "Mistakes", ``09_new`` is "New"."""
    return LABELS.get(notebook) or notebook.partition("_")[2].replace("_", " ").capitalize()


def writer_of(file: str) -> str:
    """Return the name of the notebook that writes `file`, "" where none does."""
    return next((node.name for node in nodes() if file in (*node.writes, node.metrics)), "")


def dependents(name: str) -> list[Node]:
    """Return the notebooks that read what notebook `name` writes, also indirectly."""
    after, changed = [], set[str]()
    for node in nodes():
        if node.name == name or changed & set(node.reads):
            after.append(node)
            changed |= {*node.writes, node.metrics}
    return [node for node in after if node.name != name]
