"""Submissions copied into a quarantine: no links followed, nothing too large, too deep, too many.

    handed_in = collect(Path("moodle.zip"), ["arithmetic-intensity"], quarantine)

gives for each student the notebook files by problem, and what could not be taken and why.
"""

import os
import pwd
import re
import shutil
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from grading.notebooks import LARGEST_NOTEBOOK

DEEPEST = 8
MOST_FILES = 200_000
MOST_BYTES = 8 << 30
NAME_LENGTH = 200

MOODLE = re.compile(r"(?P<name>.+?)_(?P<id>\d+)_assignsubmission_\w*$")
CANVAS = re.compile(r"(?P<name>[^_/]+?)(?:_LATE)?_(?P<id>\d+)_\d+_(?P<file>.+\.ipynb)$")
EXCHANGE = re.compile(r"(?P<student>[^+]+)\+(?P<assignment>[^+]+)\+(?P<time>[^+]+)(?:\+.*)?$")
TIMESTAMP = "timestamp.txt"
COPY = re.compile(r"(?:^copy[ _]of[ _])|(?:[ _-]*(?:\(\d+\)|copy\d*|-\d+))$", re.IGNORECASE)


@dataclass
class HandedIn:
    """What one student handed in: notebooks by the source's name, and one-line remarks.

    `when` is the moment as nbgrader wrote it down, empty where it did not.
    """

    student: str
    when: str = ""
    notebooks: dict[str, Path] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass
class _Found:
    """A file on its way: to whom it belongs, its name, and its bytes or why there are none.

    `stored` is where they lie once they are set down: in memory there is one file at a time.
    """

    student: str
    name: str
    data: bytes | None
    reason: str = ""
    order: str = ""
    stored: Path | None = None


def collect(
    place: Path, problems: list[str], quarantine: Path, assignment: str | None = None
) -> dict[str, HandedIn]:
    """Copy everybody's notebooks from a folder or a zip file; students in alphabetical order.

    A folder is nbgrader's (STUDENT/ASSIGNMENT/FILE or an exchange's STUDENT+ASSIGNMENT+TIME), an
    LMS's (Moodle, Canvas), or has a folder or a file for each student. Raises `ValueError` if
    `place` is neither a folder nor a zip file.
    """
    if place.is_dir():
        found = _from_folder(place, assignment)
    elif zipfile.is_zipfile(place):
        found = _from_zip(place, problems, assignment)
    else:
        raise ValueError(f"{place} is neither a folder nor a zip file")
    shutil.rmtree(quarantine, ignore_errors=True)
    incoming = quarantine / "-incoming-"  # no student's: their names start with a letter or digit
    incoming.mkdir(parents=True, mode=0o700)
    everybody: dict[str, list[_Found]] = {}
    for number, each in enumerate(found):
        everybody.setdefault(each.student, []).append(_set_down(each, incoming / str(number)))
    taken = {n: _taken(n, everybody[n], problems, quarantine) for n in sorted(everybody)}
    shutil.rmtree(incoming)
    return taken


def _set_down(each: _Found, path: Path) -> _Found:
    if each.data is not None:
        path.write_bytes(each.data)
        each.data, each.stored = None, path
    return each


def safe_name(text: str) -> str:
    """A student's id that is a safe file name: letters, digits, and `._@-`."""
    name = re.sub(r"[^\w.@-]+", "-", text.strip()).strip(".-")
    return name[:NAME_LENGTH] or "nameless"


def _from_folder(place: Path, assignment: str | None) -> Iterator[_Found]:
    top = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield from _walk(top, (), assignment, [0, 0])
    finally:
        os.close(top)


def _somebody_else(student: str, owner: int) -> str:
    """Who owns what an exchange has under a student's name, if it is neither they nor root.

    In an exchange everybody may make folders, under any name. Where the machine does not know the
    student, the files came from elsewhere and owners mean nothing.
    """
    try:
        if owner in (0, pwd.getpwnam(student).pw_uid):
            return ""
        return pwd.getpwuid(owner).pw_name
    except KeyError:
        return ""


def _walk(
    folder: int, path: tuple[str, ...], assignment: str | None, spent: list[int]
) -> Iterator[_Found]:
    """Every notebook below an open folder, with nothing opened through a link."""
    names = sorted(os.listdir(folder))
    if len(path) == 1 and assignment in names:
        names = [assignment]
    for name in names:
        spent[0] += 1
        here = (*path, name)
        student, order = _student(here, assignment)
        if student is None or name in (".ipynb_checkpoints", "__MACOSX"):
            continue
        about = os.stat(name, dir_fd=folder, follow_symlinks=False)
        kind = about.st_mode
        if order and not path and (other := _somebody_else(student, about.st_uid)):
            yield _Found(student, "", None, f"a submission in this name by {other} was left out")
            continue
        if not path and not stat.S_ISREG(kind):
            reason = "" if stat.S_ISDIR(kind) else "a link was handed in, not a folder"
            yield _Found(student, "", None, reason, order)
        if spent[0] > MOST_FILES or len(here) > DEEPEST:
            yield _Found(
                student, "", None, "too many files, or folders too deep: not all were read"
            )
        elif stat.S_ISDIR(kind):
            try:
                below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            except OSError as error:
                yield _Found(student, "", None, f"a folder could not be read: {error.strerror}")
                continue
            try:
                yield from _walk(below, here, assignment, spent)
            finally:
                os.close(below)
        elif name.endswith(".ipynb") or _is_nbgraders(here, assignment):
            yield _read(folder, name, student, order, spent)


def _is_nbgraders(path: tuple[str, ...], assignment: str | None) -> bool:
    """Whether this is the file in which nbgrader notes when a student submitted."""
    collected = len(path) == 3 and path[1] == assignment
    return path[-1] == TIMESTAMP and (collected or bool(len(path) == 2 and EXCHANGE.match(path[0])))


def _read(folder: int, name: str, student: str, order: str, spent: list[int]) -> _Found:
    try:
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError as error:
        link = os.path.islink(f"/proc/self/fd/{folder}/{name}")
        reason = "a link was handed in, not a file" if link else f"not readable: {error.strerror}"
        return _Found(student, name, None, reason, order)
    with os.fdopen(handle, "rb") as file:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            return _Found(
                student, name, None, "a device or a pipe was handed in, not a file", order
            )
        if about.st_nlink > 1:
            return _Found(student, name, None, "a hard link was handed in, not a file", order)
        return _bounded(file.read(LARGEST_NOTEBOOK + 1), student, name, order, spent)


def _bounded(data: bytes, student: str, name: str, order: str, spent: list[int]) -> _Found:
    spent[1] += len(data)
    if len(data) > LARGEST_NOTEBOOK:
        most = f"larger than {LARGEST_NOTEBOOK >> 20} MiB: clear its outputs"
        return _Found(student, name, None, most, order)
    if spent[1] > MOST_BYTES:
        return _Found(student, name, None, "the submissions together are too large", order)
    return _Found(student, name, data, "", order)


def _from_zip(place: Path, problems: list[str], assignment: str | None) -> Iterator[_Found]:
    """The same from an archive; sizes are what comes out of it, not what it says."""
    spent = [0, 0]
    with zipfile.ZipFile(place) as archive:
        infos = archive.infolist()
        if len(infos) > MOST_FILES:
            raise ValueError(f"{place} has {len(infos)} entries; at most {MOST_FILES} are read")
        prefix = _common_folder(infos, problems, assignment)
        for info in infos:
            path = PurePosixPath(info.filename.replace("\\", "/")).parts[prefix:]
            if not path or "__MACOSX" in path or ".ipynb_checkpoints" in path:
                continue
            student, order = _student(path, assignment)
            if student is None or (info.is_dir() and len(path) > 1):
                continue
            if ".." in path or path[0] == "/" or re.match(r"[A-Za-z]:$", path[0]):
                yield _Found("-outside-the-zip-", "", None, "an entry pointed outside the zip file")
            elif info.is_dir():
                yield _Found(student, "", None, "", order)
            elif path[-1].endswith(".ipynb"):
                yield _unpacked(archive, info, student, path[-1], order, spent)
            elif len(path) > 1:
                yield _Found(student, "", None, "", order)


def _common_folder(
    infos: list[zipfile.ZipInfo], problems: list[str], assignment: str | None
) -> int:
    """1 if all entries lie in one folder that is nobody's, as when a folder was zipped."""
    paths = [PurePosixPath(info.filename).parts for info in infos if not info.is_dir()]
    paths = [path for path in paths if path and path[0] != "__MACOSX"]
    heads = {path[0] for path in paths}
    below = {path[1] for path in paths if len(path) > 1}
    if len(heads) != 1 or len(below) < 2 or any(len(path) == 1 for path in paths):
        return 0
    one_students = assignment in below or below <= {f"{problem}.ipynb" for problem in problems}
    return 0 if one_students or MOODLE.match(next(iter(heads))) else 1


def _unpacked(
    archive: zipfile.ZipFile,
    info: zipfile.ZipInfo,
    student: str,
    name: str,
    order: str,
    spent: list,
) -> _Found:
    kind = info.external_attr >> 16
    if kind and not stat.S_ISREG(kind) and stat.S_IFMT(kind):
        return _Found(student, name, None, "a link was handed in, not a file", order)
    try:
        with archive.open(info) as file:
            return _bounded(file.read(LARGEST_NOTEBOOK + 1), student, name, order, spent)
    except (zipfile.BadZipFile, OSError, RuntimeError, EOFError) as error:
        why = " ".join(str(error).split())[:80]
        return _Found(student, name, None, f"cannot be unpacked: {why}", order)


def _student(path: tuple[str, ...], assignment: str | None) -> tuple[str | None, str]:
    """Whose a path is, and when it was handed in where the path says so; None if not of interest.

    A path of one part is a folder for a student or a file for a student.
    """
    head = path[0]
    if head.startswith("."):
        return None, ""
    exchange = EXCHANGE.match(head)
    if exchange:
        mine = assignment is None or exchange["assignment"] == assignment
        return (safe_name(exchange["student"]) if mine else None), exchange["time"]
    moodle = MOODLE.match(head)
    if moodle:
        return safe_name(f"{moodle['name']}_{moodle['id']}"), ""
    canvas = CANVAS.match(head) if len(path) == 1 else None
    if canvas:
        return safe_name(f"{canvas['name']}_{canvas['id']}"), ""
    return safe_name(head.removesuffix(".ipynb")), ""


def _taken(student: str, found: list[_Found], problems: list[str], quarantine: Path) -> HandedIn:
    """Which of a student's files is which problem's, and a copy of each in the quarantine."""
    latest = max((each.order for each in found), default="")
    found = [each for each in found if each.order in (latest, "")]
    handed_in = HandedIn(student)
    handed_in.notes += [each.reason for each in found if each.reason and not each.name]
    handed_in.when = _when(found) or latest
    files = [each for each in found if each.name and each.name != TIMESTAMP]
    for problem in problems:
        mine = sorted(
            (each for each in files if _belongs(each, problem, problems)),
            key=lambda each: (each.stored is None, _plain_name(each.name) != problem, each.name),
        )
        if not mine:
            handed_in.reasons[problem] = f"no notebook named {problem}.ipynb was handed in"
        elif mine[0].stored is None:
            handed_in.reasons[problem] = mine[0].reason
        else:
            handed_in.notebooks[problem] = _store(mine[0], problem, quarantine)
            if _plain_name(mine[0].name) != problem:
                handed_in.notes.append(f"{mine[0].name!r} was taken for {problem}.ipynb")
            if len(mine) > 1:
                handed_in.notes.append(f"{len(mine)} files could be {problem}.ipynb: one was taken")
    return handed_in


def _when(found: list[_Found]) -> str:
    """What nbgrader noted, in one short line."""
    for each in found:
        if each.name == TIMESTAMP and each.stored:
            return each.stored.read_bytes()[:100].decode("utf-8", "replace").strip()
    return ""


def _plain_name(name: str) -> str:
    """A file's name as the student had it, without what an LMS puts before it."""
    canvas = CANVAS.match(name)
    return (canvas["file"] if canvas else name).removesuffix(".ipynb")


def _belongs(each: _Found, problem: str, problems: list[str]) -> bool:
    """Whether a file is this problem's: by its name, with fewer and fewer of its endings."""
    if len(problems) == 1:
        return True
    name, names = _plain_name(each.name), {_core_name(known): known for known in problems}
    while _core_name(name) not in names and COPY.sub("", name, count=1) != name:
        name = COPY.sub("", name, count=1)
    return names.get(_core_name(name)) == problem


def _core_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _store(found: _Found, problem: str, quarantine: Path) -> Path:
    folder = quarantine / found.student
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{problem}.ipynb"
    shutil.move(found.stored, path)
    return path
