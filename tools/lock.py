"""Write the lock files anew: resolve pyproject.toml's groups and freeze what comes out.

    python -m tools.lock

Two throw-away environments are made, one with the site's group alone and one with everything;
`requirements-site.lock` gets the packages of the first, `requirements.lock` what the second has
more. The group `weights` stays out: its packages are installed without what they require, and
`requirements-weights.lock` is written by hand. Run the tests before you commit what it wrote.
"""

import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SITE_HEAD = "# What `make book` installs: the site's part alone. Regenerate with `make lock`.\n"
ALL_HEAD = (
    "# Everything: the library, the tests, nbgrader. Regenerate with `make lock`.\n"
    "-r requirements-site.lock\n"
)
LEFT_OUT = {"pip", "where-the-bytes-go"}
GROUPS_LEFT_OUT = {"weights"}


def groups() -> dict[str, list[str]]:
    """The requirements of pyproject.toml to resolve, by group; `lib` holds the library's own."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {"lib": project["dependencies"], **project["optional-dependencies"]}
    return {name: group for name, group in wanted.items() if name not in GROUPS_LEFT_OUT}


def resolve(requirements: list[str]) -> dict[str, str]:
    """Install `requirements` in a fresh environment; name to `name==version` of all it then has."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        pip = [python, "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", *requirements], check=True)
        frozen = subprocess.run([*pip, "freeze", "--all"], check=True, capture_output=True)
    lines = frozen.stdout.decode().splitlines()
    pins = {line.split("==")[0].lower(): line.split("+")[0] for line in lines if "==" in line}
    return {name: pin for name, pin in pins.items() if name not in LEFT_OUT}


def write(path: Path, head: str, pins: dict[str, str]) -> None:
    path.write_text(head + "".join(f"{pins[name]}\n" for name in sorted(pins)))
    print(f"{path.name}: {len(pins)} packages", file=sys.stderr)


def main() -> None:
    wanted = groups()
    everything = resolve([name for group in wanted.values() for name in group])
    site = resolve(wanted["site"])
    both = {name: everything[name] for name in site if name in everything}
    rest = {name: pin for name, pin in everything.items() if name not in both}
    write(ROOT / "requirements-site.lock", SITE_HEAD, both)
    write(ROOT / "requirements.lock", ALL_HEAD, rest)


if __name__ == "__main__":
    main()
