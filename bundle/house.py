"""Commands about what is in the bundle: releases rendered, sealed, compared; leftovers removed."""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path

from bundle import paths
from lib.errors import UserError


def seal(args: Namespace) -> int:
    """Write the digests of released folders, or check the files of any folder by its digests."""
    from bundle.files import SUMS, check_folder, seal_folder

    for folder in args.folders:
        if args.check and not (folder / SUMS).is_file():
            raise UserError(f"{folder}: no {SUMS} in it; name a folder that was sealed")
        if args.check:
            check_folder(folder)
        elif not folder.resolve().is_relative_to((paths.RESULTS / "released").resolve()):
            raise UserError(f"{folder}: sealed by the command that writes it; name a released one")
        else:
            print(paths.shown(seal_folder(folder)))
    return 0


def clean(_args: Namespace) -> int:
    """Remove what runs left under results/, but nothing that is released."""
    from bundle.files import clear

    clear(paths.RESULTS, kept=("released", "README.md"))
    return 0


def render(args: Namespace) -> int:
    """Render released reports and studies anew by the present code, from their records."""
    from bundle.release import render as again
    from bundle.runs import execute
    from bundle.study import released

    names = args.names or again.released_runs() + released.names()
    for name in names:
        paths.check_run_name("RUN", name.removeprefix(released.STUDIES).lstrip("/"))
        os.environ[execute.COMMAND_VARIABLE] = f"python -m bundle render {name}"
        make = released.render if name.startswith(released.STUDIES) else again.render
        print(paths.shown(make(name)), flush=True)
    return 0


def compare(args: Namespace) -> int:
    """Show two finished runs side by side: results/compare/A-B.html."""
    from bundle.compare import page

    print(paths.shown(page.write(args.a, args.b)))
    return 0


KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
METADATA = {"kernelspec": KERNEL, "language_info": {"name": "python"}}


def strip(_args: Namespace) -> int:
    """Take outputs, and what an editor wrote beside the source, out of notebooks/."""
    import nbformat  # late: `make clean` needs no Jupyter
    from nbformat.reader import NotJSONError

    from bundle import inputs
    from bundle.files import write_atomically

    for path in sorted(paths.NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")):
        before = inputs.read_text(path, paths.shown(path))
        try:
            notebook = nbformat.reads(before, as_version=4)
        except (NotJSONError, ValueError, AttributeError, KeyError, TypeError) as error:
            what = "no notebook; save it again, or restore it with git"
            raise UserError(f"{paths.shown(path)}: {what}") from error
        own = {key: value for key, value in notebook.metadata.items() if key == "bundle"}
        notebook.metadata = nbformat.from_dict({**own, **METADATA})
        for cell in notebook.cells:
            cell.metadata = {key: cell.metadata[key] for key in ("tags",) if cell.metadata.get(key)}
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        if (after := nbformat.writes(notebook, version=4) + "\n") != before:
            write_atomically(path, after.encode())
            print(paths.shown(path))
    return 0


def added(parser: ArgumentParser, command: Callable) -> ArgumentParser:
    """Return the parser with these commands in it; `command` makes the parser of a function."""
    sealing = command(seal)
    sealing.add_argument("folders", nargs="+", type=Path, help="such as results/released/cpu")
    sealing.add_argument("--check", action="store_true", help="write nothing")
    command(clean)
    command(strip)
    command(render).add_argument("names", nargs="*", help="such as cpu, studies/small; else all")
    comparing = command(compare)
    for name in ("a", "b"):
        comparing.add_argument(name, help="a run of results/ or results/released/")
    return parser
