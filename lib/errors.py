"""The one error a user is meant to read: a single line, exit code 2, no traceback."""

import sys
from collections.abc import Callable
from difflib import get_close_matches
from typing import NoReturn

LONGEST = 460  # characters of a message; with its prefix a line then stays under 500
WORD = 100  # characters of a name for which a near one is looked for


def one_line(text: object, longest: int = LONGEST) -> str:
    """Return a text as one line that any terminal or page can show, at most `longest` characters.

    Line breaks, escape sequences and all else that is not printable stand as escapes. A long text
    loses its middle: what is wrong stands in front, the remedy at the end.
    """
    told, half = str(text), longest // 2 - 2
    told = told if len(told) <= longest else f"{told[:half]} … {told[-half:]}"
    shown = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in told
    )
    return shown if len(shown) <= longest else f"{shown[:half]} … {shown[-half:]}"


class UserError(Exception):
    """Bad input. Its message is one line that names the file, the key or value, and what to do."""

    def __init__(self, message: object):
        super().__init__(one_line(message))


def nearest(word: str, known: list[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the known word nearest to `word`, or ""."""
    found = get_close_matches(word[:WORD], known, n=1, cutoff=0.5)
    return f" (did you mean '{found[0]}'?)" if found else ""


def exit_on_user_error(main: Callable[[], int | None]) -> NoReturn:
    """Run `main` and leave the process; a UserError becomes one line on stderr and exit code 2."""
    try:
        sys.exit(main())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
