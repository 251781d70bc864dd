"""Feedback pages from verdicts and messages alone: every word of them as escaped text.

No source of a test, no secret and no solution comes near this file: it gets verdicts.
"""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from grading.core import Result, Verdict

LONGEST = 4_000
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .4rem .8rem .4rem 0;
  border-bottom: 1px solid #ccc; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; }
.failed td:first-child { border-left: 4px solid #b3261e; padding-left: .5rem; }
.passed td:first-child { border-left: 4px solid #1b7f3b; padding-left: .5rem; }
img { max-width: 100%; }
svg text { font: 12px system-ui, sans-serif; }
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(title: str, body: str) -> str:
    """A whole HTML page that runs nothing and fetches nothing."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1>{body}</body></html>\n"
    )


def feedback_page(
    title: str, result: Result | None, notes: Sequence[str] = (), waiting: Mapping[str, float] = {}
) -> str:
    """What a student gets for one notebook; `waiting` are written answers that a person reads."""
    parts = [f"<p>{escape(note)}</p>" for note in notes]
    if result:
        most = sum(verdict.max_points for verdict in result.verdicts)
        parts.append(f"<p><strong>{result.points:g} of {most:g} points</strong> by tests.</p>")
        if result.unsafe:
            parts.append("<p>This was graded without a sandbox (<code>--unsafe</code>).</p>")
        parts += [f"<p>{escape(note)}</p>" for note in result.notes]
    rows = [_row(verdict) for verdict in result.verdicts] if result else []
    rows += [
        f"<tr><td>{escape(name)}</td><td>/ {points:g}</td><td>waits to be read</td></tr>"
        for name, points in waiting.items()
    ]
    head = "<tr><th>Part</th><th>Points</th><th>What the tests said</th></tr>"
    return page(title, "".join(parts) + f"<table>{head}{''.join(rows)}</table>")


def _row(verdict: Verdict) -> str:
    said = "right" if verdict.status == "passed" else verdict.message or verdict.status
    cell = f"<pre>{_text(said)}</pre>"
    if verdict.student_output:
        printed = f"<pre>{_text(verdict.student_output)}</pre>"
        cell += f"<details><summary>What your code printed</summary>{printed}</details>"
    for plot in verdict.plots:
        encoded = base64.b64encode(plot).decode()
        cell += f'<img alt="a plot that your code drew" src="data:image/png;base64,{encoded}">'
    kind = "passed" if verdict.status == "passed" else "failed"
    points = f"{verdict.points:g} / {verdict.max_points:g}"
    name = escape(verdict.grade_id)
    return f'<tr class="{kind}"><td>{name}</td><td>{points}</td><td>{cell}</td></tr>'


def _text(text: str) -> str:
    """Escaped, bounded, and with control characters shown as what they are."""
    cut = text if len(text) <= LONGEST else text[:LONGEST] + "\n[the rest was cut]"
    plain = "".join(c if c.isprintable() or c in "\n\t" else "�" for c in cut)
    return escape(plain)


def write_page(path: Path, text: str) -> None:
    """Write a page whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.writing")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
