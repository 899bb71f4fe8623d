"""What tests of the notebooks share."""

import pytest
from book_pdf import launch


@pytest.fixture(scope="session")
def browser():
    """Chromium without a screen; the test is skipped where there is none."""
    pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        if (opened := launch(playwright)) is None:
            pytest.skip("there is no Chromium or Chrome, and TL_CHROMIUM names none")
        yield opened
        opened.close()
