"""The one error a user is meant to read: a single line, exit code 2, no traceback."""

import sys
from collections.abc import Callable
from difflib import get_close_matches
from typing import NoReturn


class UserError(Exception):
    """Bad input. Its message is one line that names the file, the key or value, and what to do."""


def nearest(word: str, known: list[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the known word nearest to `word`, or ""."""
    found = get_close_matches(word, known, n=1, cutoff=0.5)
    return f" (did you mean '{found[0]}'?)" if found else ""


def exit_on_user_error(main: Callable[[], int | None]) -> NoReturn:
    """Run `main` and leave the process; a UserError becomes one line on stderr and exit code 2."""
    try:
        sys.exit(main())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
