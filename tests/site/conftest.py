"""One browser with the network cut off, one built site, each page visited once."""

import functools
import http.server
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.site.building import build_once
from tests.site.visiting import Visit


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the built HTML."""
    folder = tmp_path_factory.getbasetemp()
    return build_once(folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder)


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[[Path], str]]:
    """Serve a folder under /book/, as the published site is; gives the address of that path."""
    servers = []

    def start(folder: Path) -> str:
        handler = functools.partial(BookHandler, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/book/"

    yield start
    for server in servers:
        server.shutdown()


class BookHandler(http.server.SimpleHTTPRequestHandler):
    def translate_path(self, path: str) -> str:
        inside = path.removeprefix("/book/")
        return super().translate_path(inside if inside != path else "/not-served")

    def log_message(self, *arguments) -> None:
        """Keep the test output quiet."""


@pytest.fixture(scope="session")
def http_base(site: Path, serve: Callable[[Path], str]) -> str:
    return serve(site)


@pytest.fixture(scope="session")
def visit(browser: Browser) -> Iterator[Callable[..., Visit]]:
    """Open an address in a fresh context (empty cache), wait until it is quiet."""
    contexts = []

    def open_address(address: str, **options) -> Visit:
        options.setdefault("viewport", {"width": 1280, "height": 900})
        context = browser.new_context(**options)
        contexts.append(context)
        visited = Visit(context.new_page())
        visited.page.goto(address, wait_until="networkidle")
        return visited

    yield open_address
    for context in contexts:
        context.close()
