"""What tests of the notebooks share."""

import os

import pytest
from book_pdf import find_chromium


@pytest.fixture(scope="session")
def chromium():
    """The browser that is there; the test is skipped where there is none."""
    pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    if (found := find_chromium()) is None:
        pytest.skip("there is no Chromium or Chrome, and TL_CHROMIUM names none")
    return found


@pytest.fixture(scope="session")
def browser(chromium):
    """The browser, without a screen."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ["--disable-dev-shm-usage"]  # containers have little of it
        options += ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        yield (opened := playwright.chromium.launch(executable_path=chromium, args=options))
        opened.close()
