"""What search engines and chats learn of the book: each page's beginning, and the list of pages."""

import re
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx


def first_paragraph(doctree: nodes.document, limit: int = 200) -> str:
    """The beginning of the page in plain words, cut after a word."""
    paragraph = next(iter(doctree.findall(nodes.paragraph)), None)
    text = re.sub(r"\s+", " ", paragraph.astext() if paragraph else "").strip()
    return text if len(text) <= limit else text[:limit].rsplit(" ", 1)[0] + " …"


def add_meta(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    if doctree is None:
        return
    title = app.env.titles[page].astext()
    book = app.config.html_title
    description = first_paragraph(doctree)
    open_graph = {
        "title": title,
        "type": "website" if page == app.config.root_doc else "article",
        "url": app.config.html_baseurl + app.builder.get_target_uri(page),
        "site_name": book,
        "description": description,
        "image": app.config.html_baseurl + "_static/social.png",
        "image:alt": "A roofline over a row of bars, and the title Where the Bytes Go",
    }
    tags = [f'<meta name="description" content="{escape(description)}" />']
    tags += [
        f'<meta property="og:{name}" content="{escape(value)}" />'
        for name, value in open_graph.items()
    ]
    context["metatags"] = context.get("metatags", "") + "\n" + "\n".join(tags) + "\n"


def write_sitemap(app: Sphinx, exception: Exception | None) -> None:
    """All documents, also those that an incremental build did not write again."""
    if exception or app.builder.name != "html":
        return
    uris = [app.builder.get_target_uri(name) for name in sorted(app.env.found_docs)]
    entries = "".join(f"<url><loc>{app.config.html_baseurl}{uri}</loc></url>\n" for uri in uris)
    Path(app.outdir, "sitemap.xml").write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n'
        f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{entries}</urlset>\n',
        "utf-8",
    )


def setup(app: Sphinx) -> dict:
    app.connect("html-page-context", add_meta)
    app.connect("build-finished", write_sitemap)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
