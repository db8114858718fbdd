"""What all commands share: however one ends, it says so in one line and with one exit code."""

import argparse
import errno
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from bundle import surroundings
from bundle.files import Failed
from bundle.interruption import interruptible
from lib.errors import UserError, one_line

# What a name that is no file's, or a folder in a file's place, gives: bad input, not a bad disk.
BAD_NAMES = (errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.EINVAL)


class Parser(argparse.ArgumentParser):
    """Tells bad input in one line, as everything else does."""

    def error(self, message: str) -> NoReturn:
        """Raise UserError with what argparse says."""
        raise UserError(f"{message}; {self.prog} --help lists what it takes")


def first_line(text: str | None) -> str:
    """Return a docstring's first line: there is none where Python leaves docstrings out."""
    return (text or "").partition("\n")[0]


def stopped(stop: KeyboardInterrupt, kept: str) -> int:
    """Say what an interruption left, and return its exit code: 130 or 143."""
    number = stop.args[0] if stop.args else signal.SIGINT
    print(one_line(f"interrupted ({signal.Signals(number).name}): {kept}"), file=sys.stderr)
    return 128 + number


def failed(error: OSError, again: str = "the same command") -> int:
    """Say which file the system refused and why, and return the exit code.

    Raises UserError where the file's name was bad input.
    """
    what = f"{error.strerror or error} ({error.filename or 'results/'})"
    if error.errno in BAD_NAMES or isinstance(error, FileExistsError):
        raise UserError(f"{what}: write another name, or restore it with git") from error
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    remedy = "make room" if full else "make it readable and writable"
    line = f"{what}: {remedy}, then try again: {again}"
    print(f"error: {one_line(line)}", file=sys.stderr)
    return 1


def guarded(work: Callable[[], int]) -> int:
    """Do the work of a command and return its exit code; raises UserError."""
    try:
        return work()
    except Failed as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # who read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return failed(error)
    except KeyboardInterrupt as stop:
        return stopped(stop, "what was finished is kept; the same command goes on from there")


def alone(main: Callable[[], int]) -> int:
    """Do the command that this process was started for, whatever its user has set."""
    surroundings.plain_streams()
    surroundings.check_code()
    with interruptible():
        try:
            return main()
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] in ("bundle", "lib"):
                raise
            surroundings.check_packages(error.name)
            raise
