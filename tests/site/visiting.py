"""A page in the browser, watched."""

from playwright.sync_api import Page


class Visit:
    """A page, and all that went wrong or came over the wire while it was open."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.outside: list[str] = []
        self.problems: list[str] = []
        self.responses: list = []
        page.route("**/*", self._local_only)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on("requestfailed", lambda r: self.problems.append(f"failed: {r.url} {r.failure}"))
        page.on("response", self._response)

    def _local_only(self, route) -> None:
        url = route.request.url
        if url.startswith(("http://127.0.0.1:", "file:", "data:", "blob:")):
            route.continue_()
        else:
            self.outside.append(url)
            route.abort()

    def _console(self, message) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"console {message.type}: {message.text}")

    def _response(self, response) -> None:
        self.responses.append(response)
        if response.status >= 400:
            self.problems.append(f"{response.status}: {response.url}")
