"""After the pages are written: take out what the theme ships and this book does not use.

The theme loads 1.5 MB of JavaScript that draws icons the fonts draw as well, fonts with 2,000 icons
of which a page shows 20, and rules for every component of Bootstrap. What stays is what some page
or script mentions. Each step leaves a site that it has already seen as it is.
"""

import re
from pathlib import Path

import tinycss2
from book_fonts import cut_font
from sphinx.application import Sphinx

UNUSED_FILES = [
    "**/*.map",
    "**/webfonts/*.ttf",
    "**/webfonts/*.woff2",
    "*-macros.html",
    "scripts/fontawesome.js",
]
REPAIRS = [
    # The fonts draw the same icons.
    (r"\s*<!-- So that users can add custom icons -->\s*<script src=[^>]*></script>", ""),
    # Sphinx and the theme each add this line; the first one is enough.
    (r'<meta name="viewport" content="width=device-width, initial-scale=1" ?/>\n?', ""),
    # A second title and a table of contents, for print only: screen readers meet the title twice.
    (r'(?s)<div id="jb-print-docs-body".*?(?=<div id="searchbox">)', ""),
    # The front page is the book.
    (r"<title>(.+?) &#8212; \1</title>", r"<title>\1</title>"),
    # The theme is known before anything is drawn, and readers without JavaScript have one.
    (r'data-theme="auto"', 'data-theme="light"'),
    (
        r'dataset\.theme = localStorage\.getItem\("theme"\) \|\| "auto";',
        'dataset.theme = ["light", "dark"].find(name => name === localStorage.getItem("mode")) '
        '|| (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");',
    ),
    # Screen readers: the sidebar is a region, the role of a bibliography's entries is out of use,
    # and the corner of a pandas table is no heading.
    (
        r'<div id="pst-primary-sidebar" class',
        '<div id="pst-primary-sidebar" role="region" aria-label="Sidebar" class',
    ),
    (r'role="doc-biblioentry"', 'role="listitem"'),
    (r"<th></th>", "<td></td>"),
]
CLASS_OR_ID = re.compile(r"[.#](-?[_a-zA-Z][\w-]*)")
ICON = re.compile(r"\\([ef][0-9a-f]{3})\b|([\ue000-\uf8ff])")


def finish(app: Sphinx, exception: Exception | None) -> None:
    """Slim the pages, then the stylesheets and fonts down to what the pages need."""
    if exception or app.builder.name != "html":
        return
    static = Path(app.outdir) / "_static"
    words = repair_pages(Path(app.outdir)) | words_of(static.rglob("*.js"))
    icons = prune_stylesheets(static, words)
    cut_icon_fonts(static, icons)
    for pattern in UNUSED_FILES:
        for path in static.glob(pattern):
            path.unlink()


def repair_pages(outdir: Path) -> set[str]:
    """Make the repairs on each page; returns every word of all pages."""
    pages = list(outdir.rglob("*.html"))
    for page in pages:
        before = page.read_text("utf-8")
        after = before
        for pattern, replacement in REPAIRS:
            after = re.sub(pattern, replacement, after)
        if after != before:
            page.write_text(after, "utf-8")
    return words_of(pages)


def words_of(paths) -> set[str]:
    """Every name that could be a class or an id in these files."""
    paths = [path for path in paths if path.name != "fontawesome.js"]
    return {word for path in paths for word in re.findall(r"[\w-]+", path.read_text("utf-8"))}


def prune_stylesheets(static: Path, words: set[str]) -> set[str]:
    """Drop the rules that no page can match; returns the icons that are left."""
    icons = set()
    for path in static.rglob("*.css"):
        css = prune(path.read_text("utf-8"), words)
        css = re.sub(
            r'url\(([^()]*webfonts/[\w-]+)\.woff2\) format\("woff2"\)'
            r'(,\s*url\([^()]*\.ttf\) format\("truetype"\))?',
            r'url(\1.woff) format("woff")',
            css,
        )
        path.write_text(css, "utf-8")
        icons |= {chr(int(code, 16)) if code else icon for code, icon in ICON.findall(css)}
    return icons


def prune(css: str, words: set[str]) -> str:
    """The stylesheet without selectors whose classes or ids are not among `words`."""
    return licence(css) + serialise(tinycss2.parse_stylesheet(css, skip_whitespace=True), words)


def licence(css: str) -> str:
    """The comments that name an author and a licence: they must stay."""
    notices = re.findall(r"/\*!.*?\*/", css, flags=re.DOTALL)
    return "\n".join(notices) + "\n" if notices else ""


def serialise(rules: list, words: set[str]) -> str:
    parts = []
    for rule in rules:
        if rule.type == "qualified-rule":
            if selectors := matching(tinycss2.serialize(rule.prelude), words):
                parts.append(f"{selectors}{{{tinycss2.serialize(rule.content).strip()}}}\n")
        elif rule.type == "at-rule" and rule.at_keyword in ("media", "supports"):
            inner = tinycss2.parse_rule_list(rule.content, skip_whitespace=True)
            if kept := serialise(inner, words):
                prelude = tinycss2.serialize(rule.prelude).strip()
                parts.append(f"@{rule.at_keyword} {prelude}{{{kept}}}\n")
        elif rule.type == "at-rule":
            parts.append(rule.serialize() + "\n")
    return "".join(parts)


def matching(selectors: str, words: set[str]) -> str:
    """Those of a rule's selectors that some page could match."""
    kept = []
    for selector in re.split(r",(?![^()\[\]]*[)\]])", selectors):
        # What stands in :not(), :is() or [attribute="x"] need not be there.
        names = CLASS_OR_ID.findall(re.sub(r"\(.*\)|\[[^\]]*\]|\\.", "", selector))
        if set(names) <= words:
            kept.append(selector.strip())
    return ",".join(kept)


def cut_icon_fonts(static: Path, icons: set[str]) -> None:
    """Write each icon font again with only `icons` in it, as WOFF."""
    for path in static.rglob("webfonts/*.ttf"):
        path.with_suffix(".woff").write_bytes(cut_font(path, icons))


def setup(app: Sphinx) -> dict:
    app.connect("build-finished", finish, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
