"""The command for pictures of one's own: ``python -m bundle predict RUN PICTURES``."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable

from bundle import paths
from lib.errors import UserError

MOST = 10  # lines that are printed; the table has all


def predict(args: Namespace) -> int:
    """Predict pictures of your own with a finished run's network: a table (CSV) and a page."""
    images = [name for name in args.images if name]
    if not images:
        raise UserError("IMAGES: name a folder of pictures, such as IMAGES=my_pictures")
    from bundle.own import page  # late: it loads PyTorch, and a mistake is told before
    from bundle.own.network import load_released

    network = load_released(args.run)
    folder, table = page.write(network, images, args.occlusion)
    for row in table.head(MOST).to_dict("records"):
        print(f"{row['file']}: {row['class']} {row['probability']:.0%}")
    if len(table) > MOST:
        print(f"and {len(table) - MOST:,} more")
    print(f"{network.calibrated} It knows these classes alone: {', '.join(network.classes)}.")
    print(f"{paths.shown(folder / page.PAGE)}, and {page.TABLE} beside it")
    return 0


def added(parser: ArgumentParser, command: Callable) -> ArgumentParser:
    """Return the parser with the command in it; `command` makes the parser of a function."""
    predicting = command(predict)
    predicting.add_argument("run", help="a finished run with weights, here or released")
    predicting.add_argument("images", nargs="*", help="pictures, or folders of them")
    with_maps = "with maps of the parts that speak for the class"
    predicting.add_argument("--occlusion", action="store_true", help=with_maps)
    return parser
