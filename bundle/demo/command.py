"""The command for a page that classifies pictures: ``python -m bundle demo RUN``."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable

from bundle import paths


def demo(args: Namespace) -> int:
    """Write results/RUN/demo.html: a page that classifies pictures of your own, offline."""
    paths.check_run_name("RUN", args.run)
    from bundle.demo import page  # late: it loads PyTorch, and a mistake is told before
    from bundle.pages import index, publish

    written = page.write(args.run)
    if publish.executed_notebooks(args.run):
        publish.render_run(args.run)  # the report links to it
    index.write_index()
    print(f"{paths.shown(written)}: {written.stat().st_size / 1e6:.1f} MB, opens in any browser")
    return 0


def added(parser: ArgumentParser, command: Callable) -> ArgumentParser:
    """Return the parser with the command in it; `command` makes the parser of a function."""
    command(demo).add_argument("run", help="a finished run with weights, here or released")
    return parser
