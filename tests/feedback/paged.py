"""The page in a real browser: opening it, waiting for it, pressing its keys."""

import shutil
import time

CHROMIUM = shutil.which("chromium")
WITHOUT = "no chromium is installed (apt-get install chromium)"


def opened(browser, link, width=1280, height=860):
    """Open a link in a browser of its own; what goes wrong on the page fails the test."""
    page = browser.new_context(viewport={"width": width, "height": height}).new_page()
    page.troubles = []
    page.on("pageerror", lambda error: page.troubles.append(str(error)))
    page.goto(link)
    shown(page)
    return page


def until(page, condition):
    """Wait till an expression is true; the page's own policy forbids what Playwright would put into it."""
    end = time.monotonic() + 30
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(20)


def shown(page):
    until(page, "current && state.start !== null")
    return page.evaluate("current.id")


def answered(page, ledger, count):
    until(page, f"document.getElementById('count').textContent.startsWith('{count} of')")
    return list(ledger.votes())


def press(page, key):
    before = shown(page)
    page.keyboard.press(key)
    until(page, f"!current || current.id !== {before}")
    return before
