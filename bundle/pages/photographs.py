"""Pages without images of the dataset: it may be used, but is not ours to give away."""

from bs4 import BeautifulSoup
from nbformat import NotebookNode
from nbformat.v4 import new_output

MARK = "data-photographs"  # an HTML element that shows images of the dataset
NOTE = '<p class="label">Images of the dataset are left out of what is published.</p>'


def leave_out(cells: list[NotebookNode]) -> None:
    """Take images of the dataset out of the cells' outputs; a line stands for the first.

    They are the outputs whose metadata have `photographs`, and in HTML the elements with MARK.
    """
    said = False
    for cell in cells:
        kept = []
        for output in cell.get("outputs", []):
            rest, removed = _without(output)
            if removed and not said:
                kept.append(new_output("display_data", data={"text/html": NOTE}))
            said = said or removed
            kept += rest
        if "outputs" in cell:
            cell.outputs = kept


def _without(output: NotebookNode) -> tuple[list[NotebookNode], bool]:
    """Return what is left of an output, and whether something was taken out."""
    metadata = [one for one in output.get("metadata", {}).values() if isinstance(one, dict)]
    if any(about.get("photographs") for about in metadata):
        return [], True
    html = output.get("data", {}).get("text/html", "")
    if MARK not in html:
        return [output], False
    soup = BeautifulSoup(html, "html.parser")
    for element in soup.find_all(True, attrs={MARK: True}):
        element.decompose()
    output.data["text/html"] = str(soup)
    return ([output] if soup.get_text().strip() else []), True
