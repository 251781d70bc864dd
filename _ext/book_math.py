"""Formulas are typeset while the book is built: the reader's browser runs no MathJax.

MathJax 3 runs once, in a small JavaScript engine inside Python, and leaves HTML, invisible MathML
for screen readers, one stylesheet and a few fonts cut down to the characters the book uses. A
formula that MathJax cannot read is a warning with its place, so `-W` fails the build; in a browser
it would have been red text that nobody sees until a reader does.
"""

import json
import re
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

import quickjs
from book_fonts import cut_font
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.locale import _
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

logger = logging.getLogger(__name__)

COMPONENTS = [
    "core",
    "adaptors/liteDOM",
    "input/tex-base",
    "input/tex/extensions/ams",
    "input/tex/extensions/boldsymbol",
    "input/tex/extensions/enclose",
    "input/tex/extensions/cancel",
    "input/tex/extensions/color",
    "output/chtml",
    "output/chtml/fonts/tex",
    "a11y/assistive-mml",
]
CONFIGURE = """
var console = {log() {}, warn() {}, error(message) { throw Error(message); }};
var MathJax = {
  loader: {load: [], require() {}},
  startup: {typeset: false, input: ["tex"], output: "chtml", adaptor: "liteDOM",
            handler: "HTMLHandler", document: ""},
  tex: {packages: ["base", "ams", "boldsymbol", "cancel", "color"]},
  chtml: {adaptiveCSS: false, fontURL: "."},
};
"""
# JSON.stringify: quickjs-ng cannot hand over a string that JavaScript has put together lazily.
FUNCTIONS = """
function typeset(tex, display) {
  const formula = MathJax.tex2chtml(tex, {display});
  return JSON.stringify(MathJax.startup.adaptor.outerHTML(formula));
}
function stylesheet() {
  return JSON.stringify(MathJax.startup.adaptor.textContent(MathJax.chtmlStylesheet()));
}
"""
# A brace in quotes is a sign, `content: "{"`, and ends no rule.
RULE = re.compile(r'\s*([^{}]+?)\s*\{\s*((?:"[^"]*"|[^{}"])*?)\s*\}')
GLYPH = re.compile(r"mjx-c[0-9A-F]+\b")


def mathjax_folder() -> Path:
    """Where the pinned package keeps MathJax's files."""
    package = distribution("sphinx-mathjax-offline")
    return Path(package.locate_file("sphinx-mathjax-offline/static/mathjax"))


@cache
def engine() -> quickjs.Context:
    """MathJax, loaded and ready: about 0.1 s, once per build."""
    context = quickjs.Context()
    context.eval(CONFIGURE)
    context.eval((mathjax_folder() / "startup.js").read_text("utf-8"))
    names = [name.replace("input/tex/extensions/", "[tex]/") for name in COMPONENTS]
    context.eval(f"MathJax.loader.preLoad('loader', 'startup', ...{json.dumps(names)})")
    for name in COMPONENTS:
        context.eval((mathjax_folder() / f"{name}.js").read_text("utf-8"))
    context.eval("MathJax.config.startup.ready()")
    while context.execute_pending_job():
        pass
    context.eval(FUNCTIONS)
    return context


@cache
def typeset(tex: str, display: bool) -> str:
    """HTML of one formula, as MathJax would have made it in the browser."""
    return json.loads(engine().get("typeset")(tex, display))


def complaint(html: str) -> str | None:
    """What MathJax could not do with a formula, or None."""
    if error := re.search(r'data-mjx-error="([^"]*)"', html):
        return error[1]
    if missing := re.search(r"<mjx-utext[^>]*>([^<]*)<", html):
        return f"the math fonts have no {missing[1]!r}"
    return None


def checked(tex: str, display: bool, node: nodes.Node) -> str:
    html = typeset(tex, display)
    if problem := complaint(html):
        logger.warning("formula %r: %s", tex, problem, location=node, type="math")
    return html


def displayed_tex(node: nodes.math_block) -> str:
    r"""The TeX of a displayed formula; a bare \\ in it means aligned lines."""
    tex = node.astext()
    if node["nowrap"] or "\\\\" not in tex or "\\begin" in tex:
        return tex
    return rf"\begin{{split}}{tex}\end{{split}}"


def visit_math(self, node: nodes.math) -> None:
    self.body.append(self.starttag(node, "span", "", CLASS="math notranslate nohighlight"))
    self.body.append(checked(node.astext(), False, node) + "</span>")
    raise nodes.SkipNode


def visit_displayed_math(self, node: nodes.math_block) -> None:
    self.body.append(self.starttag(node, "div", CLASS="math notranslate nohighlight"))
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, _("Link to this equation"))
        self.body.append("</span>")
    self.body.append(checked(displayed_tex(node), True, node) + "</div>\n")
    raise nodes.SkipNode


def stylesheet_for(glyphs: set[str]) -> str:
    """MathJax's stylesheet without the rules of glyphs that no page shows."""
    css = json.loads(engine().get("stylesheet")())
    faces = re.findall(r"@font-face[^{}]*\{[^{}]*\}", css)
    rules = RULE.findall(re.sub(r"@font-face[^{}]*\{[^{}]*\}", "", css))
    kept = [f"{name}{{{body}}}" for name, body in rules if set(GLYPH.findall(name)) <= glyphs]
    rules = [re.sub(r"\s+", " ", rule) for rule in [*faces, *kept]]
    return "\n".join(["/*! MathJax 3, The MathJax Consortium, Apache License 2.0 */", *rules])


def write_assets(outdir: Path, pages: dict[Path, str]) -> None:
    """The stylesheet and the fonts for the formulas that the built pages show."""
    glyphs = {glyph for html in pages.values() for glyph in GLYPH.findall(html)}
    folder = outdir / "_static" / "math"
    folder.mkdir(parents=True, exist_ok=True)
    css = stylesheet_for(glyphs)
    (folder / "math.css").write_text(css, "utf-8")
    shown = re.findall(r'content: ?"(\\[0-9A-F]+|\\?.)', css)
    characters = {chr(int(s[1:], 16)) if len(s) > 2 else s[-1] for s in shown}
    for font in re.findall(r'url\("\./([^"]+\.woff)"\)', css):
        original = mathjax_folder() / "output/chtml/fonts/woff-v2" / font
        (folder / font).write_bytes(cut_font(original, characters))


def finish(app: Sphinx, exception: Exception | None) -> None:
    """Link the stylesheet on every page with a formula, then write it."""
    if exception or app.builder.name != "html":
        return
    outdir = Path(app.outdir)
    pages = {path: path.read_text("utf-8") for path in sorted(outdir.rglob("*.html"))}
    pages = {path: html for path, html in pages.items() if "<mjx-container" in html}
    if not pages:
        return
    write_assets(outdir, pages)
    for path, html in pages.items():
        root = "../" * (len(path.relative_to(outdir).parts) - 1)
        link = f'<link rel="stylesheet" href="{root}_static/math/math.css">\n'
        if link not in html:
            path.write_text(html.replace("</head>", link + "</head>", 1), "utf-8")


def setup(app: Sphinx) -> dict:
    app.add_html_math_renderer("typeset", (visit_math, None), (visit_displayed_math, None))
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
