"""One HTTP request for a file from some byte on, whose every step ends in time."""

import queue
import threading
import urllib.request
from http.client import HTTPException, HTTPResponse
from urllib.error import HTTPError


class CutError(Exception):
    """Why a request brought nothing, or ended early."""


def ask(url: str, offset: int, timeout_s: float) -> HTTPResponse | None:
    """Return the server's answer, None where nothing follows byte `offset` (416); raises CutError.

    In a thread, since no time-out of urllib's covers a name server that does not answer.
    """
    headers = {"User-Agent": "bundle.dataset", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    request = urllib.request.Request(url, headers=headers)
    answers: queue.SimpleQueue[HTTPResponse | Exception] = queue.SimpleQueue()
    threading.Thread(target=_ask, args=(request, timeout_s, answers), daemon=True).start()
    try:
        answer = answers.get(timeout=timeout_s)
    except queue.Empty:
        raise CutError(f"no answer within {timeout_s:.0f} s") from None
    if isinstance(answer, HTTPError) and answer.code == 416 and offset:
        return None
    if isinstance(answer, Exception):
        raise CutError(_reason(answer)) from answer
    return answer


def _ask(request: urllib.request.Request, timeout_s: float, answers: queue.SimpleQueue) -> None:
    try:
        # Reads the proxies anew.
        answers.put(urllib.request.build_opener().open(request, timeout=timeout_s))
    except Exception as error:
        answers.put(error)


def read(answer: HTTPResponse) -> bytes:
    """Return what has arrived (up to 256 KiB): a slow server is noticed; raises CutError."""
    try:
        return answer.read1(1 << 18)
    except (OSError, HTTPException) as error:
        raise CutError(_reason(error)) from error


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return f"HTTP {error.code}"
    cause = getattr(error, "reason", error)
    text = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return text.splitlines()[0]
