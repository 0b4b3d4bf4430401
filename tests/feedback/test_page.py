"""The page in a real browser: Chromium, if it is installed."""

import json
import re
import shutil
import time
from importlib.resources import files

import pytest
import torch

from feedback.collection import ledger_of, two_folders
from feedback.test_desk import hosted
from limner.core.media import Videos
from limner.feedback.choosing import Asking
from limner.feedback.gold import gold, spoil
from limner.feedback.ledger import Ledger
from limner.feedback.sources import gather

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


def test_a_reload_keeps_what_was_said_of_a_question_and_an_answer_can_still_be_taken_back(browser, place):
    ledger, link = place
    page = opened(browser, link)
    voted = press(page, "1")
    answered(page, ledger, 1)
    page.keyboard.press("m")
    page.click("#prompt button >> nth=0")
    page.fill("#why", "half said")
    page.reload()
    here = shown(page)
    assert page.input_value("#why") == "half said" and page.locator('#prompt [aria-pressed="true"]').count() == 1
    page.locator("h1").click()
    page.keyboard.press("z")
    until(page, f"current.id === {voted}")
    answered(page, ledger, 0)
    press(page, "2")
    assert shown(page) == here and page.input_value("#why") == ""
    [vote] = answered(page, ledger, 1)
    assert vote.choices["overall"] == ledger.board.assignments[voted].order[1] and not page.troubles


def test_hidden_pictures_are_looked_at_before_they_are_judged(browser, tmp_path):
    place = two_folders(tmp_path / "set", 4)
    for source, name in ((each, f"{n}") for n in range(4) for each in ("good", "bad")):
        row = {"file_name": f"{source}/prompt {name}.png", "prompt": name, "source": source, "sensitive": name == "0"}
        with (place / "metadata.jsonl").open("a") as index:
            index.write(json.dumps(row) + "\n")
    ledger = Ledger(f"sqlite:///{tmp_path / 'votes.db'}", Asking(gold=0.0, repeat=0.0))
    ledger.add(*gather(place))
    with hosted(ledger) as url:
        page = opened(browser, f"{url}/#{ledger.invite(1)[0][1]}")
        for left in range(4, 0, -1):
            shown(page)
            veiled = page.evaluate("current.prompt") == "0"
            filters = page.locator(".item img").first.evaluate("image => getComputedStyle(image).filter")
            assert ("blur" in filters) == veiled
            if veiled:
                page.keyboard.press("1")
                assert (
                    "see them first" in page.locator("#said").text_content() and len(list(ledger.votes())) == 4 - left
                )
                page.keyboard.press("b")
            press(page, "1")
            answered(page, ledger, 5 - left)
        assert not page.troubles


def test_true_pixels_and_two_fingers(browser, place):
    _, link = place
    page = opened(browser, link, 390, 844)
    first = page.locator(".item img").first
    page.keyboard.press("p")
    box = first.bounding_box()
    assert box["width"] == pytest.approx(24, abs=0.05)  # as many as the picture has
    page.keyboard.press("Escape")
    frame = page.locator(".frame").first.bounding_box()
    middle = {"x": frame["x"] + frame["width"] / 2, "y": frame["y"] + frame["height"] / 2}
    touch = page.context.new_cdp_session(page)
    for kind, far in (("touchStart", 20), ("touchMove", 40), ("touchMove", 60), ("touchEnd", None)):
        points = (
            []
            if far is None
            else [middle | {"x": middle["x"] + side * far, "id": id} for id, side in enumerate((-1, 1))]
        )
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    transforms = {image.evaluate("image => image.style.transform") for image in page.locator(".item img").all()}
    assert len(transforms) == 1 and page.evaluate("view.scale") == pytest.approx(3.0, abs=0.05) and not page.troubles


def test_several_questions_are_answered_in_turn(browser, tmp_path):
    ledger = ledger_of(tmp_path, 4, gold=0.0, repeat=0.0)
    ledger.questions = ("alignment", "quality")
    with hosted(ledger) as url:
        page = opened(browser, f"{url}/#{ledger.invite(1)[0][1]}")
        id = shown(page)
        page.keyboard.press("1")
        assert page.locator('.row[aria-current="true"]').get_attribute("data-question") == "quality"
        page.reload()
        assert shown(page) == id
        press(page, "9")
        [vote] = answered(page, ledger, 1)
        assert vote.choices == {"alignment": vote.left, "quality": "tie_bad"} and not page.troubles


@pytest.mark.parametrize(("kind", "keys"), [("rate", "4"), ("rank", "213")])
def test_ratings_and_rankings_by_keys(browser, tmp_path, kind, keys):
    place = two_folders(tmp_path / "set", 3)
    rows = [{"file_name": f"good/prompt {i}.png", "prompt": "one", "source": f"s{i}"} for i in range(3)]
    (place / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ledger = Ledger(f"sqlite:///{tmp_path / 'votes.db'}", Asking(gold=0.0, repeat=0.0))
    ledger.add(*gather(place, kind))
    with hosted(ledger) as url:
        page = opened(browser, f"{url}/#{ledger.invite(1)[0][1]}")
        id = shown(page)
        for key in keys:
            page.keyboard.press(key)
        until(page, f"!current || current.id !== {id}")
        until(page, "document.getElementById('count').textContent.startsWith('1 of')")
    [each] = ledger.answers("vote")
    order = ledger.board.assignments[id].order
    wanted = {"ratings": {"overall": 4}} if kind == "rate" else {"order": [order[1], order[0], order[2]]}
    assert {name: each.payload[name] for name in wanted} == wanted and not page.troubles


def test_clips_play_together_and_frame_by_frame(browser, tmp_path):
    pytest.importorskip("av", reason="clips are written by av")
    shade = torch.linspace(0, 1, 16)[None, :, None, None, None].expand(2, 16, 3, 64, 64)
    for source in ("a", "b"):
        (tmp_path / "set" / source).mkdir(parents=True)
    Videos(torch.stack([shade[0], shade[1].flip(0)]), fps=8.0).save(
        [tmp_path / "set" / each / "one.mp4" for each in "ab"]
    )
    ledger = Ledger(f"sqlite:///{tmp_path / 'votes.db'}", Asking(gold=0.0, repeat=0.0))
    ledger.add(*gather(tmp_path / "set"))
    times = "[...document.querySelectorAll('video')].map((clip) => clip.currentTime)"
    with hosted(ledger) as url:
        page = opened(browser, f"{url}/#{ledger.invite(1)[0][1]}")
        until(page, f"{times}.every((t) => t > 0)")
        page.keyboard.press(" ")
        until(page, "[...document.querySelectorAll('video')].every((clip) => clip.paused)")
        first, second = page.evaluate(times)
        assert abs(first - second) < 0.15
        page.keyboard.press(" ")
        until(page, "[...document.querySelectorAll('video')].every((clip) => !clip.paused)")
        page.keyboard.press(".")
        before = page.evaluate(times)
        page.keyboard.press(".")
        assert page.evaluate(times) == pytest.approx([t + 1 / 8 for t in before], abs=1e-4)
        page.keyboard.press(",")
        assert page.evaluate(times) == pytest.approx(before, abs=1e-4)
        press(page, "1")
        assert len(answered(page, ledger, 1)) == 1 and not page.troubles


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
