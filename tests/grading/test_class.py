"""A class graded whole: the gradebook, what is not done again, what is shown, several machines."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from grading import gradebook
from grading.batch import Cohort
from grading.core import Result, Verdict
from grading.course import Course, grade_course, write_feedback
from grading.feedback import feedback_page
from grading.intake import collect
from grading.notebooks import read_source
from grading.report import grades_csv, grades_json, report_page

ROOT = Path(__file__).resolve().parents[2]
ASSIGNMENT, NAME = "task2-memory", "arithmetic-intensity"
SOURCE = read_source(ROOT / f"exercises/source/{ASSIGNMENT}/{NAME}.ipynb")
POINTS = sum(test.points for test in SOURCE.problem.tests)
XSS = "<script>alert(1)</script><img src=x onerror=alert(1)>"


def right() -> dict:
    return json.loads(json.dumps(SOURCE.content))


def without(*names: str) -> dict:
    """The right notebook, with some functions still to be written."""
    content = right()
    for cell in content["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("grade_id") in names:
            cell["source"] = "raise NotImplementedError('this function is still to be written')"
    return content


def hand_in(folder: Path, student: str, content: object) -> Path:
    path = folder / student / f"{NAME}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


class Counting:
    """Decides by the text of the cells alone: right unless an answer is unwritten."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, int]] = []

    def __call__(self, tasks) -> Iterator:
        for task in tasks:
            self.ran.append((task.key[0], len(task.problem.tests)))
            text = "\n".join(cell.source for cell in task.cells)
            verdicts = []
            for test in task.problem.tests:
                name = test.grade_id.removeprefix("test-").replace("-", "_")
                passed = f"def {name}(" in text
                said = ("passed", "") if passed else ("failed", f"{XSS} is not written")
                points = test.points if passed else 0.0
                verdicts.append(Verdict(test.grade_id, points, test.points, *said, XSS))
            yield task.key, Result(tuple(verdicts), "none", False)


@pytest.fixture
def course(tmp_path: Path) -> Course:
    folder = tmp_path / "course"
    shutil.copytree(ROOT / "exercises/source", folder / "source")
    return Course(folder, ASSIGNMENT, f"sqlite:///{folder / 'gradebook.db'}")


def graded(course: Course, submitted: Path, run=None, secret: str = "s") -> tuple[list, Counting]:
    run = run or Counting()
    sources = course.sources()
    handed_in = collect(submitted, list(sources), course.work / "quarantine", ASSIGNMENT)
    return grade_course(course, handed_in, secret, run, False), run


def scores(course: Course) -> dict[str, dict[str, tuple]]:
    found = {}
    with gradebook.opened(course.db_url) as book:
        for submission in book.assignment_submissions(ASSIGNMENT):
            (notebook,) = submission.notebooks
            rows = {g.name: (g.auto_score, g.needs_manual_grade) for g in notebook.grades}
            found[submission.student.id] = rows
    return found


def sums(course: Course) -> dict[str, float]:
    everybody = scores(course).items()
    return {name: sum(score or 0 for score, _ in rows.values()) for name, rows in everybody}


def a_class(folder: Path) -> Path:
    hand_in(folder, "ada", right())
    hand_in(folder, "bob", without("linear-cost", "why-batching-does-not-help"))
    hand_in(folder, "eve", "{")
    (folder / "nobody").mkdir()
    return folder


def test_scores_reach_the_gradebook(course: Course, tmp_path: Path) -> None:
    outcomes, _ = graded(course, a_class(tmp_path / "in"))
    assert sums(course) == {"ada": POINTS, "bob": POINTS - 3, "eve": 0, "nobody": 0}
    assert scores(course)["ada"]["why-batching-does-not-help"] == (None, True)
    reasons = {outcome.student: outcome.reasons for outcome in outcomes}
    assert "not a whole notebook" in reasons["eve"][NAME]
    assert "no notebook named" in reasons["nobody"][NAME]
    rows = list(csv.DictReader((course.work / "grades.csv").open()))
    assert [(row["student"], float(row["points"])) for row in rows] == list(sums(course).items())


def test_nothing_is_graded_twice(course: Course, tmp_path: Path) -> None:
    folder = a_class(tmp_path / "in")
    graded(course, folder)
    before = scores(course)
    _, again = graded(course, folder)
    assert again.ran == [] and scores(course) == before
    hand_in(folder, "bob", right())
    _, again = graded(course, folder)
    assert again.ran == [("bob", len(SOURCE.problem.tests))]
    assert sums(course)["bob"] == POINTS


def test_a_fixed_test_is_all_that_runs_again(course: Course, tmp_path: Path) -> None:
    folder = a_class(tmp_path / "in")
    graded(course, folder)
    path = course.folder / f"source/{ASSIGNMENT}/{NAME}.ipynb"
    path.write_text(path.read_text().replace("The weights are the same for all rows.", "Fixed."))
    _, again = graded(course, folder)
    assert sorted(again.ran) == [("ada", 1), ("bob", 1)]
    _, again = graded(course, folder, secret="another secret")
    assert {count for _, count in again.ran} == {len(SOURCE.problem.tests)}


def test_a_lost_gradebook_is_written_again(course: Course, tmp_path: Path) -> None:
    folder = a_class(tmp_path / "in")
    graded(course, folder)
    before = sums(course)
    (course.folder / "gradebook.db").unlink()
    _, again = graded(course, folder)
    assert again.ran == [] and sums(course) == before


def test_points_by_hand_stay(course: Course, tmp_path: Path) -> None:
    folder = a_class(tmp_path / "in")
    graded(course, folder)
    with gradebook.opened(course.db_url) as book:
        grade = book.find_grade("why-batching-does-not-help", NAME, ASSIGNMENT, "ada")
        grade.manual_score = 3
        book.db.commit()
    hand_in(folder, "ada", without("linear-elements"))
    graded(course, folder)
    with gradebook.opened(course.db_url) as book:
        grade = book.find_grade("why-batching-does-not-help", NAME, ASSIGNMENT, "ada")
        assert (grade.manual_score, grade.needs_manual_grade) == (3, True)


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.grading.test_class import *
course = Course(Path(sys.argv[2]), ASSIGNMENT, f"sqlite:///{sys.argv[2]}/gradebook.db")
class Dying(Counting):
    def __call__(self, tasks):
        for number, item in enumerate(super().__call__(tasks)):
            if number == 5:
                os.kill(os.getpid(), signal.SIGKILL)
            yield item
graded(course, Path(sys.argv[3]), Dying())
"""


def test_killed_in_the_middle_and_run_again(course: Course, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for number in range(9):
        hand_in(folder, f"s{number}", without(*["linear-cost"] * (number % 2)))
    arguments = [sys.executable, "-c", KILLED, str(ROOT), str(course.folder), str(folder)]
    died = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert died.returncode == -signal.SIGKILL, died.stderr
    there = scores(course)
    assert 4 <= len(there) <= 5
    _, rest = graded(course, folder)
    assert 9 - len(there) <= len(rest.ran) <= 9 - len(there) + 1
    assert sums(course) == {f"s{n}": POINTS - 3 * (n % 2) for n in range(9)}


def test_pages_hold_no_markup_of_students_and_no_test(course: Course, tmp_path: Path) -> None:
    graded(course, a_class(tmp_path / "in"))
    hidden = re.findall(r"_hidden\.\w+", "".join(t.source for t in SOURCE.problem.tests))
    pages = [*course.folder.rglob("*.html")]
    assert len(pages) == 5
    for path in pages:
        text = path.read_text()
        assert "<script" not in text and "<img" not in text
        assert "default-src 'none'" in text
        for secret in (*hidden, "BEGIN HIDDEN", "BEGIN SOLUTION", "expect(linear"):
            assert secret not in text
    assert (
        "&lt;script&gt;" in (course.folder / f"feedback/bob/{ASSIGNMENT}/{NAME}.html").read_text()
    )


def test_a_formula_in_the_table_is_text(tmp_path: Path) -> None:
    cohort = Cohort(
        {NAME: SOURCE}, collect(a_class(tmp_path / "in"), [NAME], tmp_path / "q"), "s", Counting()
    )
    outcomes = list(cohort.outcomes())
    outcomes[0].student = "=cmd()"
    assert "'=cmd()" in grades_csv(outcomes, 40) and "=cmd()" in grades_json(outcomes)
    assert "Commonest mistakes" in report_page("t", outcomes, 1.0, 2)
    for outcome in outcomes[1:]:
        write_feedback(tmp_path / "fb", {NAME: SOURCE}, outcome)
    assert len(list((tmp_path / "fb").rglob("*.html"))) == 3


def test_unsafe_stands_on_the_page() -> None:
    result = Result((Verdict("t", 1.0, 1.0, "passed"),), "none (unsafe)", True)
    assert "without a sandbox" in feedback_page("x", result)


def command(*arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "COURSE_SECRET": "of the test", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "grading", *map(str, arguments)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_from_a_zip_to_csv_and_feedback_in_one_command(tmp_path: Path) -> None:
    """Through the sandbox: honest, half right, hostile, and no notebook at all."""
    folder = tmp_path / "in"
    for number in range(17):
        hand_in(folder, f"Student {number}_{number}_assignsubmission_file", right())
    hand_in(folder, "Half_90_assignsubmission_file", without("linear-limits"))
    hostile = right()
    exits = {"cell_type": "code", "metadata": {}, "source": "import os; os._exit(0)", "outputs": []}
    hostile["cells"].insert(0, {**exits, "execution_count": None})
    hand_in(folder, "Hostile_91_assignsubmission_file", hostile)
    hand_in(folder, "Broken_92_assignsubmission_file", "{")
    archive = shutil.make_archive(str(tmp_path / "in"), "zip", folder)
    source = ROOT / f"exercises/source/{ASSIGNMENT}/{NAME}.ipynb"
    table, pages = tmp_path / "o.csv", tmp_path / "fb"
    done = command("run", source, archive, "--csv", table, "--feedback", pages, "--workers", 2)
    assert done.returncode == 0, done.stderr
    rows = {row["student"]: float(row["points"]) for row in csv.DictReader(table.open())}
    assert len(rows) == 20 and len(list(pages.rglob("*.html"))) == 20
    assert [rows[f"Student-{n}_{n}"] for n in range(17)] == [POINTS] * 17
    assert (rows["Half_90"], rows["Hostile_91"], rows["Broken_92"]) == (POINTS - 2, 0, 0)


def test_students_check_themselves(tmp_path: Path) -> None:
    done = command("check", hand_in(tmp_path, "me", without("linear-limits")))
    assert done.returncode == 1, done.stderr
    assert f"{POINTS - 2:g} points by the visible tests" in done.stdout


QUICK_CHECK = """
import sys
from grading import __main__, core, sandbox
core.Limits = lambda: sandbox.Limits(cell_seconds=1.0, test_seconds=2.0)
sys.exit(__main__.main(["check", sys.argv[1]]))
"""


def test_students_are_checked_whenever_they_save(tmp_path: Path) -> None:
    """The sandbox stays warm in between, and what cannot be read does not end the watch."""
    path = hand_in(tmp_path, "me", without("linear-limits"))
    watching = [sys.executable, "-m", "grading", "check", path, "--watch"]
    together = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(watching, cwd=ROOT, **together) as process:
        said = iter(process.stdout.readline, "")
        assert any(f"{POINTS - 2:g} points by the visible tests" in line for line in said)
        path.write_text("{")
        assert any("cannot be checked" in line for line in said)
        hand_in(tmp_path, "me", right())
        assert any(f"{POINTS:g} points by the visible tests" in line for line in said)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def test_an_answer_that_never_ends_is_checked_too(tmp_path: Path) -> None:
    """It runs as a submission does, under the limits, and nowhere else."""
    content = right()
    content["cells"].append(
        {**content["cells"][-1], "cell_type": "code", "source": "while True: 1"}
    )
    content["cells"][-1] |= {"metadata": {}, "outputs": [], "execution_count": None}
    path = hand_in(tmp_path, "me", content)
    (tmp_path / "quick.py").write_text(QUICK_CHECK)
    done = subprocess.run(
        [sys.executable, tmp_path / "quick.py", path],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert f"{POINTS:g} points by the visible tests" in done.stdout, done.stderr


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A PostgreSQL of our own on a socket in a folder, run by a user who is not root."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not binaries:
        pytest.skip("PostgreSQL is not installed: no /usr/lib/postgresql/*/bin/initdb")
    home = Path(f"/tmp/grading-postgres-{os.getpid()}")
    home.mkdir(mode=0o700)
    root = os.geteuid() == 0
    if root:
        shutil.chown(home, "postgres")
    prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if root else []

    def run(name: str, *arguments: str) -> None:
        binary = str(binaries[-1].with_name(name))
        done = subprocess.run(
            [*prefix, binary, *arguments], cwd=home, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr

    try:
        run("initdb", "-D", f"{home}/data", "-U", "postgres", "-A", "trust", "--no-sync")
        options = f"-k {home} -c listen_addresses= -c fsync=off"
        run("pg_ctl", "-D", f"{home}/data", "-l", f"{home}/log", "-o", options, "-w", "start")
        run("createdb", "-h", str(home), "-U", "postgres", "class")
        yield f"postgresql://postgres@/class?host={home}"
    finally:
        run("pg_ctl", "-D", f"{home}/data", "-m", "immediate", "stop")
        shutil.rmtree(home)


def test_the_gradebook_on_postgresql(course: Course, server: str, tmp_path: Path) -> None:
    on_server = Course(course.folder, ASSIGNMENT, server)
    folder = a_class(tmp_path / "in")
    graded(on_server, folder)
    assert sums(on_server) == {"ada": POINTS, "bob": POINTS - 3, "eve": 0, "nobody": 0}
    _, again = graded(on_server, folder)
    assert again.ran == [] and not (course.folder / "gradebook.db").exists()


def test_on_several_machines_one_of_which_dies(tmp_path: Path) -> None:
    """A real scheduler and three worker processes; one is killed with work in its hands."""
    folder = tmp_path / "in"
    for number in range(24):
        hand_in(folder, f"s{number:02}", without(*["linear-limits"] * (number % 2)))
    file = tmp_path / "scheduler.json"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

    def start(*arguments: str) -> subprocess.Popen:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen([*arguments], cwd=ROOT, env=environment, **quiet)

    common = ["--scheduler-file", str(file)]
    running = [
        start(*_dask("scheduler"), *common, "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    ]
    try:
        _until(file.exists)
        worker = [*_dask("worker"), *common, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        running += [start(*worker, "--local-directory", str(tmp_path)) for _ in range(3)]
        address = json.loads(file.read_text())["address"]
        outcomes, ran = _on_cluster(folder, tmp_path, address, running[1])
    finally:
        for process in running:
            process.kill()
            process.wait()
    assert len(ran) == len(set(ran)) == 24
    points = {outcome.student: outcome.points for outcome in outcomes}
    assert points == {f"s{n:02}": POINTS - 2 * (n % 2) for n in range(24)}


def _dask(part: str) -> list[str]:
    return [sys.executable, "-m", f"distributed.cli.dask_{part}"]


def _on_cluster(folder: Path, tmp_path: Path, address: str, victim: subprocess.Popen):
    from grading.cluster import grade_on_cluster

    ran = []

    def run(tasks) -> Iterator:
        for key, result in grade_on_cluster(tasks, address):
            ran.append(key)
            if len(ran) == 3:
                victim.kill()
            yield key, result

    handed_in = collect(folder, [NAME], tmp_path / "quarantine")
    return list(Cohort({NAME: SOURCE}, handed_in, "s", run).outcomes()), ran


def _until(true, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_result_that_comes_twice_counts_once(course: Course, tmp_path: Path) -> None:
    """As from a worker that was given up for dead."""

    class Repeating(Counting):
        def __call__(self, tasks) -> Iterator:
            for key, result in super().__call__(tasks):
                yield key, result
                yield key, Result((), "none", False)

    outcomes, _ = graded(course, a_class(tmp_path / "in"), Repeating())
    assert [outcome.student for outcome in outcomes] == ["ada", "bob", "eve", "nobody"]
    assert sums(course) == {"ada": POINTS, "bob": POINTS - 3, "eve": 0, "nobody": 0}


def test_who_was_late_is_known_to_the_gradebook(course: Course, tmp_path: Path) -> None:
    for student, day in (("early", 1), ("late", 3)):
        path = hand_in(tmp_path / "in" / student, ASSIGNMENT, right())
        path.with_name("timestamp.txt").write_text(f"2026-11-0{day} 12:00:00 UTC")
    graded(course, tmp_path / "in")
    with gradebook.opened(course.db_url) as book:
        book.update_or_create_assignment(ASSIGNMENT, duedate="2026-11-02 12:00:00 UTC")
        late = {s.student.id: s.total_seconds_late for s in book.assignment_submissions(ASSIGNMENT)}
    assert late == {"early": 0, "late": 24 * 60 * 60}


def test_what_students_print_is_not_kept_in_memory(course: Course, tmp_path: Path) -> None:
    outcomes, _ = graded(course, a_class(tmp_path / "in"))
    verdicts = [v for o in outcomes for r in o.results.values() for v in r.verdicts]
    assert verdicts and not any(v.student_output or v.plots for v in verdicts)


MEASURED = """
import re, sys
from pathlib import Path
from grading.__main__ import main
code = main(sys.argv[1:])
# Not ru_maxrss: exec carries over the peak of the process that started us.
print("KIB", re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
sys.exit(code)
"""


def test_the_grader_stays_small_whatever_students_print(tmp_path: Path) -> None:
    """Three who print half a gigabyte each, by Python and past it."""
    flood = right()
    text = "import os\nfor _ in range(4000): os.write(1, b'x' * 65536); print('y' * 65536)"
    cell = {"cell_type": "code", "metadata": {}, "source": text, "outputs": []}
    flood["cells"].insert(0, {**cell, "execution_count": None})
    for student in ("ada", "bob", "eve"):
        hand_in(tmp_path / "in", student, flood)
    source = ROOT / f"exercises/source/{ASSIGNMENT}/{NAME}.ipynb"
    done = subprocess.run(
        [
            sys.executable, "-c", MEASURED, "run", source, tmp_path / "in", "--workers", "1",
            "--csv", tmp_path / "o.csv", "--feedback", tmp_path / "fb",
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    resident_kib = int(re.search(r"KIB (\d+)", done.stdout)[1])
    assert resident_kib < 2**19
    rows = list(csv.DictReader((tmp_path / "o.csv").open()))
    assert {row["student"] for row in rows} == {"ada", "bob", "eve"}
    assert max(path.stat().st_size for path in (tmp_path / "fb").rglob("*.html")) < 2**20
