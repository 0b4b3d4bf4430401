"""The page in a real browser: Chromium, if it is installed."""

import re
import shutil
import time
from importlib.resources import files

import pytest

from feedback.collection import ledger_of
from feedback.test_desk import hosted
from limner.feedback.gold import gold, spoil

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed (apt-get install chromium)")


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


@pytest.mark.parametrize(
    ("keys", "choice"),
    [
        (("1", "ArrowLeft"), 0),
        (("2", "ArrowRight"), 1),
        (("0", "ArrowDown"), "tie_good"),
        (("9", "ArrowUp"), "tie_bad"),
    ],
)
def test_every_key_says_what_it_says(browser, place, keys, choice):
    ledger, link = place
    page = opened(browser, link)
    ids = [press(page, key) for key in keys]
    votes = answered(page, ledger, 2)
    for id, vote in zip(ids, votes, strict=True):
        order = ledger.board.assignments[id].order
        assert vote.choices["overall"] == (order[choice] if isinstance(choice, int) else choice)
        assert vote.latency_ms < 60_000 and vote.left == order[0]
    assert not page.troubles


def test_skip_report_and_take_back(browser, place):
    ledger, link = place
    page = opened(browser, link)
    skipped, reported, voted = press(page, "s"), press(page, "f"), press(page, "1")
    answered(page, ledger, 3)
    assert [ledger.board.answered[id][1] for id in (skipped, reported, voted)] == ["skip", "flag", "vote"]
    page.keyboard.press("z")
    until(page, f"current.id === {voted}")
    answered(page, ledger, 2)
    press(page, "2")
    [vote] = answered(page, ledger, 3)
    assert vote.choices["overall"] == ledger.board.assignments[voted].order[1]
    assert not page.troubles


def test_marks_words_and_reasons_travel(browser, place):
    ledger, link = place
    page = opened(browser, link)
    id = shown(page)
    page.keyboard.press("a")
    box = page.locator(".frame").nth(1).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4 + box["width"] / 10, box["y"] + box["height"] / 2)
    page.mouse.up()
    page.click("#prompt button >> nth=1")
    page.select_option("#strength", "3")
    page.fill("#why", "the edge is broken")
    page.locator("h1").click()
    press(page, "1")
    [vote] = answered(page, ledger, 1)
    [mark] = vote.payload["marks"]
    assert mark["item"] == ledger.board.assignments[id].order[1] and mark["kind"] == "artifact"
    assert (mark["x"], mark["y"], mark["r"]) == pytest.approx((0.25, 0.5, 0.1), abs=0.02)
    assert (vote.payload["words"], vote.payload["strength"]) == ([1], 3)
    assert vote.payload["text"] == "the edge is broken" and not page.troubles


def test_help_flip_and_looking_closer(browser, place):
    _, link = place
    page = opened(browser, link)
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("1")
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible() and page.evaluate("history.length") == 0  # no answer in the help
    first = page.locator(".item img").first
    own, other = (page.evaluate(f"current.urls[{i}]") for i in range(2))
    page.keyboard.down("Tab")
    assert first.get_attribute("src") == other
    page.keyboard.up("Tab")
    assert first.get_attribute("src") == own
    page.keyboard.press("+")
    transforms = {image.evaluate("image => image.style.transform") for image in page.locator(".item img").all()}
    assert len(transforms) == 1 and "scale(1.5)" in transforms.pop()
    page.keyboard.press("Escape")
    assert "scale(1)" in first.evaluate("image => image.style.transform") and not page.troubles


def test_a_lost_connection_and_a_reload_lose_nothing(browser, place):
    ledger, link = place
    page = opened(browser, link)
    page.context.set_offline(True)
    ids = [press(page, "1"), press(page, "2")]
    until(page, "document.getElementById('net').textContent.includes('answers wait')")
    assert not list(ledger.votes())
    page.context.set_offline(False)
    page.reload()
    shown(page)
    votes = answered(page, ledger, 2)
    assert [vote.task for vote in votes] == [ledger.board.assignments[id].task for id in ids]
    assert shown(page) not in ids and not page.troubles


def test_two_tabs_of_one_annotator_count_each_question_once(browser, place):
    ledger, link = place
    first = opened(browser, link)
    second = first.context.new_page()
    second.goto(link)
    assert shown(second) == shown(first)
    press(first, "1")
    answered(first, ledger, 1)
    press(second, "2")
    until(second, "document.getElementById('said').textContent.includes('answered already')")
    [vote] = ledger.votes()
    assert vote.choices["overall"] == ledger.board.assignments[1].order[0]


@pytest.mark.parametrize(("width", "height"), [(1280, 860), (390, 844)])
def test_it_fits_and_needs_no_mouse(browser, place, width, height):
    ledger, link = place
    page = opened(browser, link, width, height)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    answer = page.locator("#answers button").last.bounding_box()
    assert answer["y"] + answer["height"] <= height  # all answers without scrolling
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, img')].filter((e) => !(e.textContent || e.alt)).length"
    )
    assert not unnamed
    page.locator("#answers button").first.focus()
    before = shown(page)
    page.keyboard.press("Enter")
    until(page, f"current.id !== {before}")
    assert len(answered(page, ledger, 1)) == 1 and not page.troubles


def test_the_end_a_bad_link_and_the_admins_page(browser, tmp_path):
    ledger = ledger_of(tmp_path, 2, gold=0.0, repeat=0.0)
    ledger.add(*gold(spoil(list(ledger.board.items.values()), 2), tmp_path / "gold"))
    with hosted(ledger) as url:
        page = opened(browser, f"{url}/#{ledger.invite(1)[0][1]}")
        for key in ("1", "2"):
            press(page, key)
        until(page, "document.getElementById('question').textContent.includes('Thank you')")
        for link, words in ((f"{url}/", "lacks its key"), (f"{url}/?x#nonsense", "Nothing is left|Waiting")):
            page.goto(link)
            until(page, f"/{words}/.test(document.getElementById('question').textContent)")
        page.goto(f"{url}/admin#the-admins-own-token")
        until(page, "document.getElementById('said').textContent.includes('2 of 2 pairs judged')")


def luminance(colour):
    levels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in levels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_texts_stand_out_from_their_ground():
    """WCAG 2.2's contrast, (L1 + .05) / (L2 + .05), is at least 4.5 for text."""
    style = (files("limner.feedback") / "page" / "page.css").read_text()
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", style))
    for ground in ("ground", "raised"):
        for text in ("ink", "soft", "accent", "warn", "misfit"):
            assert (luminance(colours[text]) + 0.05) / (luminance(colours[ground]) + 0.05) >= 4.5, (text, ground)
