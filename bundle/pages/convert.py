"""One executed notebook as one HTML page that asks no other host for anything.

Imported by `pages.publish` only when a page has to be written: nbconvert takes most of a second to
import, and a build in which every page is up to date needs none of it.
"""

import re
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import nbformat
from bs4 import BeautifulSoup
from jinja2 import pass_context
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import MarkdownWithMath
from nbformat import NotebookNode
from traitlets.config import Config

from bundle.pages.markdown import Outline, Renderer, tables
from bundle.paths import shown
from lib.errors import UserError

TEMPLATE = Path(__file__).resolve().parent / "template"
# A figure's picture before its repr; neither widgets nor JavaScript, which would have to be
# fetched.
IMAGES = ["image/png", "image/jpeg", "image/svg+xml"]
SHOWN_FIRST = [*IMAGES, "text/html", "text/markdown", "text/latex", "text/plain"]
SILENT_IMAGE = re.compile(r"""!\[\s*\]\(|<img(?![^>]*\balt=(?:"\s*[^"\s]|'\s*[^'\s]))""")


@dataclass
class Page:
    """What the template asks about a page besides its cells."""

    bundle: str
    name: str  # file name of the page, by which it finds itself in the navigation
    notebook: str
    run: str
    code: bool
    notice: str = ""
    commit: str = ""
    fingerprint: str = ""
    navigation: list[tuple[str, str]] = field(default_factory=list)  # label, relative link
    outline: Outline = field(default_factory=Outline)

    @property
    def heading(self) -> str:
        """The first H1 of the notebook, else a title made of its name."""
        name = re.sub(r"^\d+_|\.ipynb$", "", self.notebook).replace("_", " ")
        return self.outline.title or name.capitalize()

    @property
    def title(self) -> str:
        """The window's title: the notice first, as a tab shows only the beginning of a title."""
        notice = f"[{self.notice}] " if self.notice else ""
        return f"{notice}{self.heading} · {self.run} · {self.bundle}"

    @property
    def neighbours(self) -> list[tuple[str, str, str]]:
        """Return (rel, label, link) of the page before and the page after this one."""
        links = [link for _, link in self.navigation]
        if self.name not in links:
            return []
        here = links.index(self.name)
        around = (("prev", here - 1), ("next", here + 1))
        return [(rel, *self.navigation[at]) for rel, at in around if 0 <= at < len(links)]


class PageExporter(HTMLExporter):
    """nbconvert with the bundle's template and Markdown."""

    @pass_context
    def markdown2html(self, context, source: str) -> str:
        """Render Markdown; an error names the cell."""
        cell, resources = context["cell"], context["resources"]
        outline, attachments = resources["page"].outline, cell.get("attachments", {})
        renderer = Renderer(outline, attachments=attachments, path=resources["folder"])
        try:
            return MarkdownWithMath(renderer=renderer).render(source)
        except ValueError as error:
            where = resources["where"](cell)
            raise UserError(f"{where}: {error}; write it in simpler LaTeX") from error

    def default_filters(self):
        """Add the bundle's filters to nbconvert's."""
        yield from super().default_filters()
        yield "tables", tables
        yield "figure", figure


def figure(output: NotebookNode, mime: str) -> str:
    """Return the `<figure>` of an image output; its alt text was checked before."""
    about, data = output.metadata.get(mime, {}), output.data[mime]
    is_svg = mime == "image/svg+xml"
    payload = b64encode(data.encode()).decode() if is_svg else "".join(data.split())
    width, alt = about.get("width") or _printed_width(payload), escape(about["alt"])
    size = f' width="{round(width)}"' if width else ""
    return (
        f'<figure><img src="data:{mime};base64,{payload}" alt="{alt}"{size}>'
        f'<figcaption aria-hidden="true">{alt}</figcaption></figure>'
    )


def _printed_width(payload: str) -> float | None:
    """Return a PNG's width in CSS pixels by its resolution: letters are then of one size."""
    start = b64decode(payload[:400])
    # Pixels per metre, after IHDR, whose first number is the width (PNG, 11.2.2, 11.3.4.3).
    at = start.find(b"pHYs")
    if not start.startswith(b"\x89PNG") or at < 0:
        return None
    per_metre = int.from_bytes(start[at + 4 : at + 8])
    return int.from_bytes(start[16:20]) / per_metre / 0.0254 * 96 if per_metre else None


def _tags(cell: NotebookNode | None) -> list[str]:
    return cell.metadata.get("tags", []) if cell else []


def _chosen(cells: list[NotebookNode], code: bool) -> list[NotebookNode]:
    """Leave out hidden cells and the defaults that injected parameters replace.

    "hide" hides a cell everywhere, "hide-in-report" where code is left out too.
    """
    hidden = {"hide"} if code else {"hide", "hide-in-report"}
    kept = []
    for cell, after in zip(cells, [*cells[1:], None], strict=True):
        if "injected-parameters" in _tags(cell):
            cell.source = cell.source.removeprefix("# Parameters\n")  # the page says so above it
        replaced = "parameters" in _tags(cell) and "injected-parameters" in _tags(after)
        if not replaced and not hidden & set(_tags(cell)):
            kept.append(cell)
    return kept


def _check_alt(cell: NotebookNode, where: str) -> None:
    """Refuse an image that says nothing to a reader who cannot see it."""
    if cell.cell_type == "markdown" and SILENT_IMAGE.search(cell.source):
        raise UserError(f"{where}: an image without alt text; write ![what it shows](file)")
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        mime = next((mime for mime in SHOWN_FIRST if mime in data), "")
        silent = mime in IMAGES and not output.metadata.get(mime, {}).get("alt", "").strip()
        if silent or (mime in ("text/html", "text/markdown") and SILENT_IMAGE.search(data[mime])):
            remedy = "display it with metadata that has 'alt'"
            raise UserError(f"{where}: an image without alt text; {remedy}")


def _check_offline(html: str, notebook: str) -> None:
    """Refuse whatever a browser would fetch on its own; a link that a reader may follow stays."""
    for tag in BeautifulSoup(html, "html.parser").find_all(True):
        names = ["src", "srcset", "poster", "data"]
        names += [] if tag.name == "a" else ["href", "xlink:href"]
        addresses = [tag[name] for name in names if tag.get(name)]
        fetched = [address for address in addresses if not address.startswith(("data:", "#"))]
        style = tag.get_text() if tag.name == "style" else tag.get("style", "")
        fetched += re.findall(r"@import[^;]*|url\(\s*['\"]?(?!data:)[^)]*", style)
        if fetched:
            problem = f"<{tag.name}> asks for '{fetched[0][:80]}'"
            raise UserError(f"{notebook}: {problem}; embed it or leave it out")


def _read(executed: Path) -> NotebookNode:
    """Return a notebook whose cells know their number, which stays when others are left out."""
    try:
        notebook = nbformat.read(executed, as_version=4)
    except Exception as error:  # JSON, schema and encoding errors share no base class
        raise UserError(f"{shown(executed)}: not a readable notebook; execute it again") from error
    for number, cell in enumerate(notebook.cells, start=1):
        cell.metadata["number"] = number
    return notebook


def convert_notebook(executed: Path, page: Page) -> str:
    """Return the HTML of `executed`.

    UserError: unreadable notebook, image without alt text, unknown LaTeX, anything another host is
    asked for.
    """

    def where(cell: NotebookNode) -> str:
        prompt = f" (In [{cell.execution_count}])" if cell.get("execution_count") else ""
        return f"{shown(executed)}: cell {cell.metadata['number']}{prompt}"

    notebook = _read(executed)
    notebook.cells = _chosen(notebook.cells, page.code)
    for cell in notebook.cells:
        _check_alt(cell, where(cell))
    exporter = PageExporter(
        config=Config({"NbConvertBase": {"display_data_priority": SHOWN_FIRST}}),
        extra_template_basedirs=[str(TEMPLATE.parent)],
        template_name=TEMPLATE.name,
    )
    exporter.exclude_input = not page.code
    resources = {"page": page, "where": where, "folder": str(executed.parent)}
    html, _ = exporter.from_notebook_node(notebook, resources)
    _check_offline(html, shown(executed))
    return html
