"""One executed notebook as one HTML page that asks no other host for anything.

Imported by `pages.publish` only when a page has to be written: nbconvert takes most of a second to
import, and a build in which every page is up to date needs none of it.
"""

import ast
import builtins
import functools
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import nbformat
from jinja2 import pass_context
from jinja2.runtime import Context
from nbconvert import HTMLExporter, TemplateExporter
from nbconvert.filters.highlight import Highlight2HTML
from nbconvert.filters.markdown_mistune import MarkdownWithMath
from nbformat import NotebookNode
from traitlets.config import Config

from bundle import words
from bundle.pages import index, photographs, shapes
from bundle.pages.markdown import Outline, Renderer, cited, linked, tables
from bundle.paths import shown
from lib.errors import UserError

TEMPLATE = Path(__file__).resolve().parent / "template"
# A figure's picture before its repr; no widgets nor JavaScript: they would have to be fetched.
IMAGES = ["image/png", "image/jpeg", "image/svg+xml"]
SHOWN_FIRST = [*IMAGES, "text/html", "text/markdown", "text/latex", "text/plain"]
PARAMETERS = {"parameters", "injected-parameters"}
SHOWING = {"HTML", "Markdown", "display", *dir(builtins), *dir(dict), *dir(str), "_asdict"}
SHOWING |= {"drop", "head", "itertuples", "mean", "nunique", "rename", "to_dict", "tolist"}
SHOWS_PARAMETERS = "book.parameters()"
SILENT_IMAGE = re.compile(r"""!\[\s*\]\(|<img(?![^>]*\balt=(?:"\s*[^"\s]|'\s*[^'\s]))""")


@dataclass
class Page:
    """What the template asks about a page besides its cells."""

    bundle: str
    name: str  # file name of the page, by which it finds itself in the navigation
    notebook: str
    run: str
    code: bool
    photographs: bool = True
    notice: str = ""
    accuracy: str = ""
    commit: str = ""
    full: tuple[str, str] = ("", "")  # the command of the full result, and what it reached
    fingerprint: str = ""
    demo: str = ""  # link to the page in which the network classifies one's own pictures
    navigation: Sequence[tuple[str, str]] = ()  # label, relative link
    beyond: Sequence[tuple[str, str]] = ()  # the same, of the pages over all runs
    outline: Outline = field(default_factory=Outline)

    @property
    def heading(self) -> str:
        """The first H1 of the notebook, else a title made of its name."""
        name = re.sub(r"^\d+_|\.ipynb$", "", self.notebook).replace("_", " ")
        return self.outline.title or name.capitalize()

    @property
    def alarm(self) -> str:
        """What a reader must not overlook: other data, an audit, a stale training."""
        return words.alarm(self.notice)

    @property
    def rehearsal(self) -> str:
        """The sentence of a page on a part of CIFAR-10, "" of any other."""
        return words.rehearsal(self.notice)

    @property
    def title(self) -> str:
        """The window's title, what tells tabs apart first: "48.5% · quick (rehearsal) · Report"."""
        short = words.notice_in_short(self.notice)
        run = f"{self.run} ({short})" if short else self.run
        label = "Report" if not self.code else index.label(Path(self.notebook).stem)
        return " · ".join(filter(None, (self.accuracy, run, label)))

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
    def markdown2html(self, context: Context, source: str) -> str:
        """Render Markdown; an error names the cell."""
        cell, resources = context["cell"], context["resources"]
        outline, attachments = resources["page"].outline, cell.get("attachments", {})
        renderer = Renderer(outline, attachments=attachments, path=resources["folder"])
        try:
            return cited(MarkdownWithMath(renderer=renderer).render(source))
        except ValueError as error:
            where = resources["where"](cell)
            raise UserError(f"{where}: {error}; write it in simpler LaTeX") from error

    def default_filters(self) -> Iterator[tuple[str, Callable]]:
        """Add the bundle's filters to nbconvert's."""
        yield from super().default_filters()
        yield "tables", numbered
        yield "figure", figure
        yield "what", what
        yield "highlight_code", Highlight2HTML(pygments_lexer="ipython3", parent=self)


def what(source: str) -> str:
    """Return what a cell's code does, for its fold: its first comment or the function it calls."""
    if comment := re.match(r"#\s*(.+)", source.strip()):
        return comment[1].rstrip(".:")
    try:
        nodes = [*ast.walk(ast.parse(source))]
    except SyntaxError:  # a magic of IPython
        return ""
    if any(isinstance(node, ast.Import | ast.ImportFrom) for node in nodes):
        return "imports"
    own, shows = list[str](), list[str]()  # what computes, and what only arranges or shows
    for call in (node.func for node in nodes if isinstance(node, ast.Call)):
        if isinstance(call, ast.Name):
            own.append(call.id)
        elif isinstance(call, ast.Attribute) and isinstance(call.value, ast.Name):
            (shows if call.value.id in ("book", "pd", "np") else own).append(call.attr)
    own += [name for name in shows if name not in ("table", "figure", "DataFrame")]
    return next((name for name in own + shows if name not in SHOWING), "").replace("_", " ")


@pass_context
def numbered(context: Context, html: str) -> str:
    """Return an HTML output with its tables marked and their captions numbered."""
    return tables(html, context["resources"]["page"].outline)


@pass_context
def figure(context: Context, output: NotebookNode, mime: str) -> str:
    """Return the numbered `<figure>` of an image output; its alt text was checked before.

    Of two variants, wide and narrow, the style sheet shows one by the width of the screen.
    """
    outline = context["resources"]["page"].outline
    outline.figures += 1
    about, data = output.metadata.get(mime, {}), output.data[mime]
    alt, caption, narrow = (about.get(key) or "" for key in ("alt", "caption", "narrow"))
    if mime == "image/svg+xml" and 'class="chart' in data[:300]:
        drawn = data + narrow
    else:
        payload = b64encode(data.encode()).decode() if "svg" in mime else "".join(data.split())
        width = about.get("width") or _printed_width(payload)
        drawn = _image(mime, payload, alt, width, "wide" if narrow else "")
        drawn += _image(mime, narrow, alt, _printed_width(narrow), "narrow") if narrow else ""
    number = f"<b>Figure {outline.figures}.</b> "
    said = "" if caption else ' aria-hidden="true"'  # the alternative text was read aloud already
    caption = f"<figcaption{said}>{number}{escape(caption or alt)}</figcaption>"
    return f'<figure id="figure-{outline.figures}" class="numbered">{drawn}{caption}</figure>'


def _image(mime: str, payload: str, alt: str, width: float | None, shown: str) -> str:
    size = (f' class="{shown}"' if shown else "") + (f' width="{round(width)}"' if width else "")
    return f'<img src="data:{mime};base64,{payload}" alt="{escape(alt)}"{size}>'


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
            kept.append(_for_a_page(cell))
    return kept


def _mark_set_up(cells: list[NotebookNode]) -> None:
    """Mark what stands above the first section and only prepares: a page shows it at its end."""
    for number, (cell, after) in enumerate(zip(cells, [*cells[1:], None], strict=True)):
        if cell.cell_type == "markdown" and re.search(r"^##", cell.source, re.MULTILINE):
            return
        shows = SHOWS_PARAMETERS in cell.source
        told = after is not None and SHOWS_PARAMETERS in after.source
        if cell.cell_type == "code":
            prepares = shows or not cell.outputs or {*_tags(cell)} & PARAMETERS
        else:
            prepares = told or cell.source.startswith("**Reads**")
        cell.metadata["set_up"] = bool(prepares) and number > 0


def _for_a_page(cell: NotebookNode) -> NotebookNode:
    """Return a cell without outputs that say in Jupyter what a page's head says."""
    if "outputs" in cell:
        said = [about.get("notebook_only") for about in map(_about, cell.outputs)]
        cell.outputs = [one for one, only in zip(cell.outputs, said, strict=True) if not only]
    return cell


def _about(output: NotebookNode) -> dict:
    """Return the metadata of the form of an output that a page shows."""
    data = output.get("data", {})
    mime = next((mime for mime in SHOWN_FIRST if mime in data), "")
    return output.get("metadata", {}).get(mime, {})


def _check_alt(cell: NotebookNode, where: str) -> None:
    """Refuse an image that says nothing to a reader who cannot see it."""
    if cell.cell_type == "markdown" and SILENT_IMAGE.search(cell.source):
        raise UserError(f"{where}: an image without alt text; write ![what it shows](file)")
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        mime = next((mime for mime in SHOWN_FIRST if mime in data), "")
        silent = mime in IMAGES and not output.metadata.get(mime, {}).get("alt", "").strip()
        if silent or (mime in ("text/html", "text/markdown") and SILENT_IMAGE.search(data[mime])):
            raise UserError(f"{where}: an image without alt text; display it with metadata 'alt'")


def _check_offline(html: str, notebook: str) -> None:
    """Refuse whatever a browser would fetch on its own; a link that a reader may follow stays."""
    asked = _Asked()
    asked.feed(html)
    asked.close()
    for tag, address in asked.fetched:
        problem = f"<{tag}> asks for '{address[:80]}'"
        raise UserError(f"{notebook}: {problem}; embed it or leave it out")


class _Asked(HTMLParser):
    """Reads a page and notes what a browser would fetch, as (element, address)."""

    def __init__(self) -> None:
        super().__init__()
        self.element, self.fetched = "", list[tuple[str, str]]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.element = tag
        links = () if tag == "a" else ("href", "xlink:href")
        for name, value in attrs:
            if name == "style":
                self._style(value or "")
            elif name in ("src", "srcset", "poster", "data", *links):
                here = not value or value.startswith(("data:", "#"))
                self.fetched += [] if here else [(tag, str(value))]

    def handle_endtag(self, tag: str) -> None:
        self.element = ""

    def handle_data(self, data: str) -> None:
        if self.element == "style":
            self._style(data)

    def _style(self, text: str) -> None:
        found = re.findall(r"@import[^;]*|url\(\s*['\"]?(?!data:)[^)]*", text)
        self.fetched += ((self.element, address) for address in found)


def _read(executed: Path) -> NotebookNode:
    """Return a notebook whose cells know their number, which stays when others are left out."""
    try:
        notebook = nbformat.read(executed, as_version=4)
    except Exception as error:  # JSON, schema and encoding errors share no base class
        raise UserError(f"{shown(executed)}: not a readable notebook; execute it again") from error
    for number, cell in enumerate(notebook.cells, start=1):
        cell.metadata["number"] = number
    return notebook


@functools.cache
def _exporter(code: bool) -> PageExporter:
    config = Config({"NbConvertBase": {"display_data_priority": SHOWN_FIRST}})
    template = {"extra_template_basedirs": [str(TEMPLATE.parent)], "template_name": TEMPLATE.name}
    return PageExporter(config=config, exclude_input=not code, **template)


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
    if page.code:
        _mark_set_up(notebook.cells)
    if not page.photographs:
        photographs.leave_out(notebook.cells)
    for cell in notebook.cells:
        _check_alt(cell, where(cell))
    resources = {"page": page, "where": where, "folder": str(executed.parent)}
    # Without HTMLExporter's second pass, half of the time: a tree of the page, for a few marks.
    html, _ = TemplateExporter.from_notebook_node(_exporter(page.code), notebook, resources)
    _check_offline(html, shown(executed))
    return shapes.share(linked(html))
