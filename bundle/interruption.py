"""An interrupted command ends with one line, also while it imports: this comes before all else."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SOON = 0.05  # seconds


class Interrupted(KeyboardInterrupt):
    """A signal asked to stop; its number is the argument."""


def leave(number: int, _frame: object = None) -> None:
    """End at once, with one line: there is nothing to be put in order."""
    with contextlib.suppress(OSError):
        line = f"interrupted ({signal.Signals(number).name}): what was finished is kept\n"
        os.write(2, line.encode())
    os._exit(128 + number)


def _raise(number: int, _frame: object) -> None:
    raise Interrupted(number)


def _handle(handler: Callable[[int, Any], None]) -> None:
    for number in SIGNALS:
        if (
            signal.getsignal(number) is not signal.SIG_IGN
        ):  # as a shell starts what it does not stop
            signal.signal(number, handler)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Have SIGINT and SIGTERM raise Interrupted within the block and leave at once after it."""
    usual = sys.unraisablehook

    def hook(told: Any) -> None:
        """Python drops what is raised where it collects garbage: raise it again, soon."""
        if not isinstance(told.exc_value, Interrupted):
            return usual(told)
        again = threading.Timer(SOON, os.kill, (os.getpid(), told.exc_value.args[0]))
        again.daemon = True
        again.start()

    sys.unraisablehook = hook
    _handle(_raise)
    try:
        yield
    finally:
        _handle(leave)
        sys.unraisablehook = usual


if sys.argv[:1] == ["-m"]:  # python -m bundle, which is importing its package
    _handle(leave)
