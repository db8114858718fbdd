"""Commands about results/: two runs compared, releases sealed, what runs left removed."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from bundle import paths
from lib.errors import UserError


def seal(args: Namespace) -> int:
    """Write the digests of released folders, or check the files of any folder by its digests."""
    from bundle.files import check_folder, seal_folder

    for folder in args.folders:
        if args.check:
            check_folder(folder)
        elif not folder.resolve().is_relative_to(paths.RESULTS / "released"):
            raise UserError(f"{folder}: sealed by the command that writes it; name a released one")
        else:
            print(paths.shown(seal_folder(folder)))
    return 0


def clean(_args: Namespace) -> int:
    """Remove what runs left under results/, but nothing that is released."""
    from bundle.files import clear

    clear(paths.RESULTS, kept=("released", "README.md"))
    return 0


def compare(args: Namespace) -> int:
    """Show two finished runs side by side: results/compare/A-B.html."""
    from bundle.compare import page

    print(paths.shown(page.write(args.a, args.b)))
    return 0


def added(parser: ArgumentParser, command) -> ArgumentParser:
    """Return the parser with these commands in it; `command` makes the parser of a function."""
    sealing = command(seal)
    sealing.add_argument("folders", nargs="+", type=Path, help="such as results/released/cpu")
    sealing.add_argument("--check", action="store_true", help="write nothing")
    command(clean)
    comparing = command(compare)
    for name in ("a", "b"):
        comparing.add_argument(name, help="a run of results/ or results/released/")
    return parser
