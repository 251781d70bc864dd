"""What tests look for inside a page, as JavaScript that the page evaluates."""

import re

# Formulas that MathJax could not typeset, in any of the ways it shows that.
TEX_FAULTS = """() => [...document.querySelectorAll(
    "mjx-merror, [data-mjx-error], [mathcolor=red], .katex-error, " +
    "mjx-container [style*='color: red'], mjx-utext"
)].map(e => e.outerHTML.slice(0, 200))"""

IMAGES = """() => [...document.images].map(
    i => [i.alt.trim(), i.className, i.naturalWidth, i.src.slice(0, 90)]
)"""

# What lies left of the screen cannot be scrolled to.
CUT_OFF = """() => [...document.querySelectorAll("article *")].filter(
    e => e.getBoundingClientRect().right < 0 || e.getBoundingClientRect().left < -1
).map(e => e.outerHTML.slice(0, 100))"""

# One letter of each kind of code (keyword, comment, ...) in each kind of box, and its ground.
CODE_COLOURS = """() => {
    const seen = new Map();
    for (const span of document.querySelectorAll("div.highlight pre span")) {
        const boxes = [span.closest("div.cell > div"), span.closest("div.cell")];
        const kind = [span, ...boxes].map(e => e?.className).join(" in ");
        if (!span.textContent.trim() || seen.has(kind)) continue;
        let ground = span;
        const isClear = (e) => getComputedStyle(e).backgroundColor.endsWith(" 0)");
        while (isClear(ground) && ground.parentElement) ground = ground.parentElement;
        const colours = [getComputedStyle(span).color, getComputedStyle(ground).backgroundColor];
        seen.set(kind, [kind, ...colours]);
    }
    return [...seen.values()];
}"""


def contrast(one: str, other: str) -> float:
    """Contrast of two colours as the browser writes them (WCAG 2.1, relative luminance)."""
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    shares = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
    red, green, blue = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
