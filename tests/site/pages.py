"""Which pages the site has, read from the table of contents before anything is built."""

import json
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))


def contents() -> list[str]:
    """The documents of the table of contents, without suffix, in reading order."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    chapters = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return [Path(name).with_suffix("").as_posix() for name in [toc["root"], *chapters]]


DOCUMENTS = contents()
NOTEBOOKS = [name for name in DOCUMENTS if (ROOT / f"{name}.ipynb").exists()]
PAGES = [f"{name}.html" for name in DOCUMENTS] + ["search.html", "genindex.html", "404.html"]


def explore_figures(notebook: str) -> int:
    """How many `explore` figures a committed notebook holds in its outputs."""
    cells = json.loads((ROOT / f"{notebook}.ipynb").read_text("utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    html = ["".join(output.get("data", {}).get("text/html", "")) for output in outputs]
    return sum(text.count('<figure class="explore"') for text in html)
