"""A browser, and a page of sixteen pairs."""

import pytest

from feedback.collection import ledger_of
from feedback.paged import CHROMIUM
from feedback.test_desk import hosted


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def place(tmp_path):
    ledger = ledger_of(tmp_path, 16, gold=0.0, repeat=0.0)
    with hosted(ledger) as url:
        yield ledger, f"{url}/#{ledger.invite(1)[0][1]}"
