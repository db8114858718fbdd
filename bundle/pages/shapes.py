"""Shapes that several charts of a page draw, most of them letters: written once in the page."""

import re

SHAPE = re.compile(r'<path id="([^"]+)"( d="[^"]*"[^>]*)/>')
REFERENCE = re.compile(r'(?<=href="#)[^"]+')


def share(html: str) -> str:
    """Return a page in which each shape is defined where it is first drawn, and nowhere else.

    A third of a report is shapes that an earlier chart has too. A chart that is not displayed (the
    wide form on a phone) still lends its shapes.
    """
    first, same = dict[str, str](), dict[str, str]()

    def once(shape: re.Match[str]) -> str:
        new = shape[2] not in first
        same[shape[1]] = first.setdefault(shape[2], shape[1])
        return shape[0] if new else ""

    html = SHAPE.sub(once, html)
    return REFERENCE.sub(lambda name: same.get(name[0], name[0]), html)
