"""Where the reader is asked, and where a source is corrected, the page says so in colour.

In Jupyter, Colab and GitHub these stay what they are: a Markdown quote that begins with a bold
"Predict first" or "What the sources say", and a cell that sets a variable called `my_...`.
"""

from docutils import nodes
from sphinx.application import Sphinx

QUOTES = {"predict first": "predict", "what the sources say": "sources"}


def name_boxes(app: Sphinx, doctree: nodes.document) -> None:
    """Give these quotes and cells a class for the stylesheet."""
    for quote in doctree.findall(nodes.block_quote):
        bold = next(iter(quote.findall(nodes.strong)), None)
        opening = bold.astext().strip(" .:").lower() if bold else ""
        if opening in QUOTES and quote.astext().startswith(bold.astext()):
            quote["classes"].append(QUOTES[opening])
    for cell in doctree.findall(nodes.container):
        if cell.get("nb_element") == "cell_code" and cell.astext().startswith("my_"):
            cell["classes"].append("predict")


def setup(app: Sphinx) -> dict:
    app.connect("doctree-read", name_boxes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
