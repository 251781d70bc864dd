"""What every test run shares: type and shape checks, one thread, the same examples each time."""

import importlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

# Before torch is imported, and inherited by every process that a test starts.
os.environ["OMP_NUM_THREADS"] = "1"

import jaxtyping
import pytest
import torch
from hypothesis import settings
from playwright.sync_api import Browser, sync_playwright

# From here on, every call into lib is checked against its annotations, shapes included.
TYPE_CHECKS = jaxtyping.install_import_hook("lib", "beartype.beartype")

settings.register_profile("book", derandomize=True, deadline=None, database=None)
settings.load_profile("book")

# QUIC and the background services ask for hosts of their own.
CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same numbers whatever ran before, in whichever process."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        pytest.skip("Chromium is not installed: no command named chromium or chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def import_unchecked() -> Callable[[str], ModuleType]:
    """Import a module of lib as a reader does, without the type checks of the test run.

    Beartype answers an argument of the wrong type before the library can. To see the library's
    own `ValueError` for a string or a float, take the module from here:
    `traffic = import_unchecked("lib.memory.traffic")`. It and what it imports are second copies,
    apart from those that the test run checks.
    """
    copies: dict[str, ModuleType] = {}

    def load(name: str) -> ModuleType:
        checked, finders = _take_lib_out(), sys.meta_path[:]
        TYPE_CHECKS.uninstall()
        sys.modules.update(copies)
        try:
            return importlib.import_module(name)
        finally:
            copies.update(_take_lib_out())
            sys.modules.update(checked)
            sys.meta_path[:] = finders

    return load


def _take_lib_out() -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name == "lib" or name.startswith("lib.")]
    return {name: sys.modules.pop(name) for name in names}


def pytest_configure(config: pytest.Config) -> None:
    """Where everything that tests need is installed, a skipped test is a hole in the proof."""
    if os.environ.get("CI") == "true":
        config.pluginmanager.register(SkipsAreFailures(), "skips-are-failures")


class SkipsAreFailures:
    """Turns each skip, of a test or of a whole file, into a failure that gives the reason.

    An expected failure (`xfail`) is not a skip and stays what it is.
    """

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Iterator[pytest.TestReport]:
        return _fail_if_skipped((yield))

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self) -> Iterator[pytest.CollectReport]:
        return _fail_if_skipped((yield))


def _fail_if_skipped(report):
    if report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which counts as a failure under CI=true: {report.longrepr[2]}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The canary notebooks: how many the checks caught."""
    kinds = ("passed", "failed", "error")
    reports = [report for kind in kinds for report in terminalreporter.getreports(kind)]
    ran = [report for report in reports if "::test_canary[" in report.nodeid]
    if ran:
        caught = sum(report.passed for report in ran)
        terminalreporter.line(f"canaries caught {caught}/{len(ran)}")
