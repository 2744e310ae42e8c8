"""A real browser, headless, that loads pages of ours: the distribution's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_a_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium is installed (apt install chromium)"
)


@contextmanager
def browser() -> Iterator[Any]:
    """One browser process; its pages talk to nobody."""
    from playwright.sync_api import sync_playwright

    # Chromium has no sandbox for root, whose pages these are anyway.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        try:
            yield running
        finally:
            running.close()


class LoadedPage:
    """A file in a tab, with everything that went wrong in it.

    :ivar page: Playwright's page
    :ivar wrong: messages of the console, errors of the script, and requests for anything but the file
    """

    def __init__(self, running: Any, file: Path, *, scheme: str = "light", width: int = 1200) -> None:
        self.context = running.new_context(
            color_scheme=scheme, viewport={"width": width, "height": 900}, reduced_motion="reduce"
        )
        self.page = self.context.new_page()
        self.wrong: list[str] = []
        self.page.on("console", lambda message: self.wrong.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.wrong.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self._requested(request.url, file))
        self.page.goto(file.as_uri())
        self.page.wait_for_function("document.readyState === 'complete'")

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            self.page.keyboard.press(key)

    def says(self, place: str) -> str:
        """The text of an element."""
        return str(self.page.text_content(place)).strip()

    def focused(self) -> str:
        """The id of the element that has the focus."""
        return str(self.page.evaluate("document.activeElement.id"))

    def close(self) -> None:
        """Close the tab.

        :raises AssertionError: if anything went wrong in it
        """
        self.context.close()
        assert self.wrong == []

    def _requested(self, url: str, file: Path) -> None:
        if url != file.as_uri() and not url.startswith(f"{file.as_uri()}#"):
            self.wrong.append(f"asked for {url}")
