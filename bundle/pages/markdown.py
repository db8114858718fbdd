"""Markdown and tables of a notebook as HTML: MathML at build time, headings that are remembered."""

import re
from dataclasses import dataclass, field
from html import unescape
from typing import Any
from unicodedata import category

from bs4 import BeautifulSoup, Tag
from latex2mathml.converter import convert
from nbconvert.filters.markdown_mistune import IPythonRenderer

NUMBER = re.compile(
    r"[-+−±<>≈]?\s*\d[\d.,\u202f\u2009 ]*(e[-+]?\d+)?\s*(%|[a-zA-Zµ/²]{1,8})?"  # with a short unit
    r"(\s*±\s*[\d.,]+\s*%?)?"
    r"|[-+−]?\.\d+|[-–—]|nan|NaN|"
)
SHORT = 24  # characters of a table's cell that stay on one line
DESCRIPTION_LENGTH = 160  # what search engines and messengers show of a description


@dataclass
class Outline:
    """What a page's Markdown holds, gathered while it is rendered and needed above it."""

    title: str = ""
    description: str = ""
    figures: int = 0  # numbered so far
    tables: int = 0
    references: int = 0
    files: str = ""  # HTML of what the notebook reads and writes
    set_up: list[str] = field(default_factory=list)  # HTML of the cells that prepare
    # Level, anchor, HTML of the text.
    headings: list[tuple[int, str, str]] = field(default_factory=list)

    def anchor(self, text: str) -> str:
        """Return an anchor for a heading that no earlier one has ("main" is the page's own)."""
        wanted = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "section"
        taken = {"main", *(anchor for _, anchor, _ in self.headings)}
        anchor, number = wanted, 1
        while anchor in taken:
            number += 1
            anchor = f"{wanted}-{number}"
        return anchor


def plain(html: str) -> str:
    """Return the text of an HTML fragment."""
    return " ".join(unescape(re.sub(r"<[^>]+>", "", html)).split())


class Renderer(IPythonRenderer):
    """nbconvert's Markdown with MathML, wrapped tables, links between pages, and an outline."""

    def __init__(self, outline: Outline, **options: Any):
        """Gather the headings in `outline`; `options` are those of nbconvert's renderer."""
        super().__init__(escape=False, embed_images=True, **options)
        self.outline = outline

    def heading(self, text: str, level: int, **attrs: Any) -> str:
        """Write a heading with an anchor; every H1 after the first becomes an H2."""
        if level == 1 and not self.outline.title:
            self.outline.title = plain(text)
            return f"<h1>{text}</h1>\n"
        level, anchor = max(level, 2), self.outline.anchor(plain(text))
        if level <= 3:
            self.outline.headings.append((level, anchor, re.sub(r"</?a\b[^>]*>", "", text)))
        return f'<h{level} id="{anchor}">{text}</h{level}>\n'

    def paragraph(self, text: str) -> str:
        """Write a paragraph; the first one after the title describes the page."""
        if text.startswith("<strong>Reads</strong>") and not self.outline.headings:
            self.outline.files = super().paragraph(text)
            return ""
        if self.outline.title and not self.outline.description:
            words = plain(text)
            cut = words[:DESCRIPTION_LENGTH].rsplit(" ", 1)[0] + " …"
            self.outline.description = words if len(words) <= DESCRIPTION_LENGTH else cut
        return super().paragraph(FORMULA.sub(r'<span class="whole">\1\2</span>', text))

    def list(self, text: str, ordered: bool, **attrs: Any) -> str:
        """Write a list; that of the section "References" is numbered, each entry has an anchor."""
        if not (self.outline.headings and self.outline.headings[-1][2] == "References"):
            return super().list(text, ordered, **attrs)

        def entry(_: re.Match[str]) -> str:
            self.outline.references += 1
            return f'<li id="ref-{self.outline.references}">'

        return f'<ol class="references">\n{re.sub("<li>", entry, text)}</ol>\n'

    def link(self, text: str, url: str, title: str | None = None) -> str:
        """Write a link; one to a notebook of the bundle leads to its page."""
        url = re.sub(r"^(?:[\w./-]*/)?(\d\d_\w+)\.ipynb\b", r"\1.html", url)
        return super().link(text, url, title)

    def table(self, text: str) -> str:
        """Write a table in a box that scrolls by itself."""
        return f'<div class="scroll">{tables(f"<table>{text}</table>")}</div>\n'

    def inline_math(self, body: str) -> str:
        """Write MathML within a line."""
        return mathml(body, "inline")

    def block_math(self, body: str) -> str:
        """Write MathML on lines of its own."""
        return f'<span class="math">{mathml(body, "block")}</span>'

    def latex_environment(self, name: str, body: str) -> str:
        """Write a LaTeX environment, unnumbered: nothing refers to the numbers."""
        starred = name.rstrip("*") + "*"
        return self.block_math(rf"\begin{{{starred}}}{body}\end{{{starred}}}")


TAG = re.compile(r"(<[^>]*>)")
FORMULA = re.compile(r"(<math\b(?:(?!</math>).)*</math>)([,.;:)]+)")  # with what ends its clause
CITATION = re.compile(r"\[(\d+(?:, ?\d+)*)\]")


def cited(html: str) -> str:
    """Mark what looks like a citation, "[3]" or "[1, 4]", in running text; `linked` links it."""
    parts, inside = TAG.split(html), 0
    for at, part in enumerate(parts):
        if TAG.fullmatch(part):
            inside += bool(re.match(r"<(code|pre|a|math|script|style)\b", part))
            inside -= bool(re.match(r"</(code|pre|a|math|script|style)>", part))
        elif not inside:
            parts[at] = CITATION.sub(r'<a class="cite">\1</a>', part)
    return "".join(parts)


def linked(html: str) -> str:
    """Link the marked citations of a page whose references are all there; others stay text."""
    there = set(re.findall(r'<li id="ref-(\d+)">', html))

    def link(match: re.Match[str]) -> str:
        numbers = re.findall(r"\d+", match[1])
        if not set(numbers) <= there:
            return f"[{match[1]}]"
        links = (f'<a class="cite" href="#ref-{number}">{number}</a>' for number in numbers)
        return f"[{', '.join(links)}]"

    return re.sub(r'<a class="cite">([^<]*)</a>', link, html)


def mathml(latex: str, display: str) -> str:
    """Return `latex` as MathML, "inline" or "block"; ValueError names what is not convertible."""
    latex = " ".join(latex.split())
    try:
        converted = convert(latex, display=display)
    except Exception as error:  # the package raises some twenty classes without a common base
        reason = f"cannot be converted ({type(error).__name__})"
        raise ValueError(f"mathematics '{latex}' {reason}") from error
    if unknown := re.search(r"\\[A-Za-z]+", converted):
        raise ValueError(f"mathematics '{latex}' has the unknown command {unknown[0]}")
    converted = converted.replace(' xmlns="http://www.w3.org/1998/Math/MathML"', "")
    converted = re.sub(r"<mi>(&#x[0-9A-F]+;)</mi>", _operator, converted)
    return re.sub(r"<m([io])>([a-z]{2,})</m\1>(<mo )?", _function, converted)


def _operator(match: re.Match[str]) -> str:
    """Return a relation or binary operator as `mo`: as the package's identifier it has no space."""
    character = unescape(match[1]).replace("~", "∼")
    is_operator = category(character) == "Sm" and character not in "∞∂∇"
    return f"<mo>{character}</mo>" if is_operator else match[0]


def _function(match: re.Match[str]) -> str:
    """Return a function's name with the thin spaces of LaTeX, none before a bracket."""
    space = "0" if match[3] else "0.167em"
    return f'<mo lspace="0.167em" rspace="{space}">{match[2]}</mo>{match[3] or ""}'


def tables(html: str, outline: Outline | None = None) -> str:
    """Mark the numeric columns of all tables in `html`, and the scope of their headers.

    A caption is numbered, as the tables that `outline` has seen go on.
    """
    if "<table" not in html:
        return html
    soup = BeautifulSoup(html, "html.parser")
    for style in soup.find_all("style", scoped=True):
        style.decompose()  # pandas' own alignment of every column to the right
    for table in soup.find_all("table"):
        _join_names(table)
        _align(table)
        if outline and table.caption and table.caption.get_text().strip():
            outline.tables += 1
            number = soup.new_tag("b")
            number.string = f"Table {outline.tables}."
            table.caption.insert(0, number, " ")
            table["id"] = f"table-{outline.tables}"
    return str(soup)


def _cells(table: Tag) -> tuple[list[list[Tag]], list[list[Tag]]]:
    """Return the cells of the header's and of the body's rows; a body's row holds data."""
    rows = [list(row.find_all(["td", "th"])) for row in table.find_all("tr")]
    is_body = [any(cell.name == "td" for cell in row) for row in rows]
    head = [row for row, body in zip(rows, is_body, strict=True) if not body]
    return head, [row for row, body in zip(rows, is_body, strict=True) if body]


def _align(table: Tag) -> None:
    """Give class `number` to the columns of nothing else, `short` to cells not to be broken.

    Columns are counted from the right: on the left a row header may span several rows.
    """
    del table["border"]
    head, body = _cells(table)
    for scope, rows in (("col", head), ("row", body)):
        for cell in (cell for row in rows for cell in row):
            text = cell.get_text().strip()
            if cell.name == "th" and text:
                cell["scope"] = scope
            if len(text) <= SHORT:
                _add_class(cell, "short")
    for place in range(1, max(map(len, body), default=0) + 1):
        cells = [row[-place] for row in body if len(row) >= place and row[-place].name == "td"]
        heads = [row[-place] for row in head if len(row) >= place]
        texts = [cell.get_text().strip() for cell in cells]
        if any(texts) and all(NUMBER.fullmatch(text) for text in texts):
            for cell in cells + [cell for cell in heads if not cell.get("colspan")]:
                _add_class(cell, "number")


def _add_class(cell: Tag, name: str) -> None:
    cell["class"] = " ".join([*filter(None, cell.get_attribute_list("class")), name])


def _join_names(table: Tag) -> None:
    """Move the names of the index, its own header row in pandas, into the row above's blanks."""
    head, _ = _cells(table)
    if len(head) < 2 or len(head[-1]) != len(head[-2]):
        return
    texts = [[cell.get_text().strip() for cell in row] for row in head[-2:]]
    if any(text and name for text, name in zip(*texts, strict=True)):
        return
    for cell, text, name in zip(head[-2], *texts, strict=True):
        cell.string = text or name
    if row := head[-1][0].parent:
        row.decompose()
