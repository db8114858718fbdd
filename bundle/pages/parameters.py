"""A notebook's parameters as a table of HTML: value, default, meaning."""

import json
from html import escape
from typing import Any

from bundle.checks import Parameter, described


def html(settings: Any) -> str:
    """Return every parameter of a notebook's settings by group, folded."""
    rows = described(type(settings))
    values = {row.name: getattr(settings, row.name) for row in rows}
    others = [row.name for row in rows if values[row.name] != row.default]
    differ = f"; other than the default (marked *): {', '.join(others)}" if others else ""
    bodies = "".join(
        f'<tbody><tr><th colspan="4"><b>{group}</b></th></tr>'
        f"{''.join(_row(row, values[row.name]) for row in rows if row.group == group)}"
        "</tbody>"
        for group in dict.fromkeys(row.group for row in rows)
    )
    return (
        f"<details><summary>All {len(rows)} parameters by group{differ}.</summary>"
        "<table><thead><tr><th>name</th><th>value</th><th>default</th>"
        f'<th style="min-width: 14rem">meaning</th></tr></thead>{bodies}</table></details>'
    )


def shown(value: Any) -> str:
    """Return a parameter's value as a file of parameters has it."""
    return (value or '""') if isinstance(value, str) else json.dumps(value)


def _row(row: Parameter, value: Any) -> str:
    """Return a parameter as a row of a table, marked where it is not at its default."""
    now = escape(shown(value))
    cells = (
        row.name,
        now if value == row.default else f"<b>{now}&nbsp;*</b>",
        escape(shown(row.default)),
        f"{escape(row.meaning)} <i>({escape(row.values)})</i>",
    )
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
