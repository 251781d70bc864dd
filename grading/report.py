"""One page about a class, and a table for the LMS."""

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from html import escape

from grading.batch import Outcome
from grading.feedback import page

COMMONEST = 12
BINS = 10


def report_page(title: str, outcomes: Sequence[Outcome], seconds: float, graded: int) -> str:
    """Distribution for each problem, commonest mistakes, who needs a look and why, time used."""
    decided = [outcome for outcome in outcomes if outcome.results]
    tiers = Counter(r.tier for outcome in outcomes for r in outcome.results.values())
    facts = [
        f"{len(outcomes)} students, {len(decided)} with a notebook that could be graded",
        f"{graded} notebooks graded in this run, in {seconds:.1f} s",
        *(f"sandbox: {tier} ({count} notebooks)" for tier, count in tiers.items()),
    ]
    body = "<ul>" + "".join(f"<li>{escape(fact)}</li>" for fact in facts) + "</ul>"
    body += "<h2>Points by tests</h2>" + _histogram(
        [o.points / o.tested for o in outcomes if o.tested]
    )
    body += "<h2>Each test</h2>" + _tests(outcomes)
    body += "<h2>Commonest mistakes</h2>" + _mistakes(outcomes)
    body += "<h2>Who needs a look</h2>" + _look(outcomes)
    return page(title, body + "<h2>Time used by submissions</h2>" + _time(outcomes))


def _histogram(shares: Sequence[float]) -> str:
    counts = Counter(min(int(share * BINS), BINS - 1) for share in shares)
    most = max(counts.values(), default=1)
    bars = []
    for place in range(BINS):
        count, high = counts[place], 120 * counts[place] / most
        at = f'x="{place * 60}" y="{130 - high:.1f}" width="52" height="{high:.1f}"'
        label = f"{place * 10} to {place * 10 + 10} %"
        bars.append(f'<rect {at} fill="#3b6ea5"><title>{label}: {count}</title></rect>')
        bars.append(f'<text x="{place * 60}" y="{126 - high:.1f}">{count}</text>')
        bars.append(f'<text x="{place * 60}" y="146">{place * 10} %</text>')
    drawing = (
        f'<svg viewBox="0 -20 600 170" role="img" aria-label="histogram">{"".join(bars)}</svg>'
    )
    return drawing


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return "<p>None.</p>"
    top = "".join(f"<th>{escape(title)}</th>" for title in head)
    body = ("".join(f"<td>{escape(str(cell))}</td>" for cell in row) for row in rows)
    return f"<table><tr>{top}</tr>{''.join(f'<tr>{cells}</tr>' for cells in body)}</table>"


def _tests(outcomes: Sequence[Outcome]) -> str:
    rows: dict[tuple[str, str], Counter] = {}
    for outcome in outcomes:
        for notebook, result in outcome.results.items():
            for verdict in result.verdicts:
                count = rows.setdefault((notebook, verdict.grade_id), Counter())
                count[verdict.status] += 1
                count["all"] += 1
    kinds = ("passed", "failed", "error", "timeout", "lost")
    lines = [
        (*name, *(count[kind] for kind in kinds), f"{100 * count['passed'] / count['all']:.0f} %")
        for name, count in rows.items()
    ]
    return _table(["notebook", "test", *kinds, "right"], lines)


def _mistakes(outcomes: Sequence[Outcome]) -> str:
    said = Counter(
        (verdict.grade_id, _first_line(verdict.message))
        for outcome in outcomes
        for result in outcome.results.values()
        for verdict in result.verdicts
        if verdict.status != "passed" and verdict.message
    )
    rows = [(count, *what) for what, count in said.most_common(COMMONEST)]
    return _table(["students", "test", "what they were told"], rows)


def _first_line(message: str) -> str:
    """The mistake that a message names, else its first line."""
    lines = message.strip().split("\n")
    named = [line[2:] for line in lines if line.startswith("- ")]
    return (named or lines)[0][:160]


def _look(outcomes: Sequence[Outcome]) -> str:
    return _table(["student", "why"], [(o.student, why) for o in outcomes for why in o.remarks()])


def _time(outcomes: Sequence[Outcome]) -> str:
    took = sorted(r.seconds for o in outcomes for r in o.results.values())
    if not took:
        return "<p>None.</p>"
    middle, late = took[len(took) // 2], took[int(0.95 * (len(took) - 1))]
    slowest = max((r.seconds, o.student) for o in outcomes for r in o.results.values())
    return (
        f"<p>Median {middle:.3f} s, 95th percentile {late:.3f} s, "
        f"longest {slowest[0]:.1f} s ({escape(slowest[1])}).</p>"
    )


def grades_csv(outcomes: Sequence[Outcome], max_points: float) -> str:
    """One row for a student. A cell that a spreadsheet would take for a formula is quoted."""
    table = io.StringIO()
    writer = csv.writer(table)
    notebooks = sorted({name for outcome in outcomes for name in outcome.expected})
    head = ["student", "points", "max_points", "waiting", *notebooks, "sandbox", "remarks"]
    writer.writerow(head)
    for outcome in outcomes:
        each = [outcome.results[n].points if n in outcome.results else 0 for n in notebooks]
        tiers = sorted({result.tier for result in outcome.results.values()})
        row = [outcome.student, outcome.points, max_points, outcome.waiting, *each]
        row += ["; ".join(tiers), "; ".join(outcome.remarks())]
        writer.writerow([_harmless(cell) for cell in row])
    return table.getvalue()


def _harmless(cell: object) -> object:
    text = str(cell)
    return f"'{text}" if isinstance(cell, str) and text[:1] in ("=", "+", "-", "@", "\t") else cell


def grades_json(outcomes: Sequence[Outcome]) -> str:
    """All verdicts, for programs; what was printed and drawn stands in the feedback alone."""
    rows = []
    for outcome in outcomes:
        results = {}
        for notebook, result in outcome.results.items():
            content = asdict(result)
            for verdict in content["verdicts"]:
                del verdict["plots"], verdict["student_output"]
            results[notebook] = {**content, "points": result.points}
        about = {"student": outcome.student, "points": outcome.points, "waiting": outcome.waiting}
        rows.append({**about, "remarks": outcome.remarks(), "notebooks": results})
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
