"""The other keys of the page in a real browser, what is fetched before it is timed, and what it says of progress."""

import json
import re

import pytest

from feedback.collection import ledger_of, two_folders
from feedback.paged import CHROMIUM, WITHOUT, answered, opened, press, shown, until
from feedback.test_desk import hosted
from limner.feedback.choosing import Asking
from limner.feedback.ledger import Ledger
from limner.feedback.sources import gather

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=WITHOUT)
SCALE = "Number(/scale\\((.+)\\)/.exec(document.querySelector('.sheet').style.transform)[1])"


def test_control_and_z_takes_back_and_no_other_key_with_control_answers(browser, place):
    ledger, link = place
    page = opened(browser, link)
    voted = press(page, "1")
    answered(page, ledger, 1)
    here = shown(page)
    for key in ("Control+1", "Control+s", "Alt+1", "Meta+2"):
        page.keyboard.press(key)
    assert shown(page) == here and len(answered(page, ledger, 1)) == 1
    page.keyboard.press("Control+z")
    until(page, f"current.id === {voted}")
    assert "Taken back" in page.locator("#said").text_content()
    assert answered(page, ledger, 0) == []
    press(page, "2")
    [vote] = answered(page, ledger, 1)
    assert vote.choices["overall"] == ledger.board.assignments[voted].order[1] and not page.troubles


def test_v_switches_h_helps_brushes_and_looking_closer_and_away(browser, place):
    _, link = place
    page = opened(browser, link)
    left = page.locator(".frame >> nth=0 >> img >> visible=true")
    own, other = (page.evaluate(f"current.media[{i}].url") for i in range(2))
    for source in (other, own):  # V stays until it is pressed again
        page.keyboard.press("v")
        assert left.count() == 1 and left.get_attribute("src") == source
    page.keyboard.press("h")
    assert page.locator("#help").is_visible()
    page.keyboard.press("2")
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible() and page.evaluate("history.length") == 0
    sizes = []
    for key in ("[", "[", "]", "]", "]", "["):
        page.keyboard.press(key)
        sizes.append((page.evaluate("BRUSHES[brush]"), page.input_value("#brush")))
    assert sizes == [(0.02, "0"), (0.02, "0"), (0.05, "1"), (0.1, "2"), (0.1, "2"), (0.05, "1")]
    page.keyboard.press("[")
    page.keyboard.press("a")
    frame = page.locator(".frame").first.bounding_box()
    page.mouse.click(frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2)
    assert page.evaluate("state.marks.map((each) => each.r)") == [0.02]
    scales = []
    for key in ("=", "=", "-", "+", "-", "-", "-"):  # half as near again, and never farther than whole
        page.keyboard.press(key)
        scales.append(page.evaluate(SCALE))
    assert scales == pytest.approx([1.5, 2.25, 1.5, 2.25, 1.5, 1.0, 1.0]) and page.locator("#fit").is_hidden()
    assert not page.troubles


def test_each_rating_is_what_its_key_says_and_others_are_none(browser, tmp_path):
    place = two_folders(tmp_path / "set", 5)
    rows = [{"file_name": f"good/prompt {i}a.png", "prompt": "one", "source": f"s{i}"} for i in range(5)]
    (place / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ledger = Ledger(f"sqlite:///{tmp_path / 'votes.db'}", Asking(gold=0.0, repeat=0.0))
    ledger.add(*gather(place, "rate"))
    with hosted(ledger) as url:
        page = opened(browser, f"{url}/#{ledger.invite(1)[0][1]}")
        given = {}
        for done, key in enumerate("31524"):
            id = shown(page)
            for none in ("0", "6", "9", "ArrowLeft"):
                page.keyboard.press(none)
            assert shown(page) == id
            page.keyboard.press(key)
            until(page, f"!current || current.id !== {id}")
            until(page, f"document.getElementById('count').textContent.startsWith('{done + 1} of 5')")
            given[ledger.board.assignments[id].task] = int(key)
        until(page, "document.getElementById('question').textContent.includes('Thank you')")
        said = {each.task.id: each.payload["ratings"]["overall"] for each in ledger.answers("vote")}
        assert said == given and not page.troubles


def test_what_is_shown_was_fetched_before_it_is_timed_and_the_next_ones_too(browser, place):
    """Of the first question both pictures have arrived before it is shown; those after it while it is answered."""
    ledger, link = place
    page = browser.new_context().new_page()
    fetched = []
    page.on("requestfinished", lambda request: fetched.append(request.url) if "/api/media/" in request.url else None)
    page.goto(link)
    first = shown(page)
    until(page, "waiting.length === 3 && waiting.every((each) => each.media.length === 2)")
    ids = page.evaluate("[current, ...waiting].map((each) => each.id)")
    assert ids[0] == first and len(set(ids)) == 4
    assert {re.sub(".*/media/", "", url) for url in fetched} == {f"{id}/{side}" for id in ids for side in (0, 1)}
    ready = "media().every((image) => image.complete && image.naturalWidth === 24) && performance.now() >= state.start"
    assert page.evaluate(ready)
    page.evaluate("""() => {  // pictures that are not decoded until that is said
      window.own = HTMLImageElement.prototype.decode;
      window.gates = [];
      HTMLImageElement.prototype.decode = () => new Promise((done) => window.gates.push(done));
    }""")
    before = len(fetched)
    page.keyboard.press("1")
    assert page.evaluate("current.id") == ids[1] and page.evaluate("state.start") is None
    page.keyboard.press("2")  # nobody has seen it yet
    assert page.evaluate("current.id") == ids[1]
    page.evaluate("HTMLImageElement.prototype.decode = window.own, window.gates.forEach((done) => done())")
    assert shown(page) == ids[1]
    assert all(f"/{ids[1]}/" not in url for url in fetched[before:])  # nothing of it is asked for again
    [vote] = answered(page, ledger, 1)
    assert vote.task == ledger.board.assignments[first].task
    press(page, "2")
    both = answered(page, ledger, 2)
    assert 0 <= both[1].latency_ms < 60_000


def test_progress_the_time_that_is_left_and_a_reminder_to_look_away(browser, tmp_path):
    ledger = ledger_of(tmp_path, 30, gold=0.0, repeat=0.0)
    with hosted(ledger) as url:
        page = opened(browser, f"{url}/#{ledger.invite(1)[0][1]}")
        count = page.locator("#count")
        until(page, "document.getElementById('count').textContent === '0 of 30 answered'")
        for done in range(1, 26):
            press(page, "1")
            said = page.locator("#said").text_content()
            assert ("25 in a row: look away for a moment." in said) == (done == 25)
        until(page, "document.getElementById('count').textContent.startsWith('25 of 30 answered, about ')")
        assert re.fullmatch(r"25 of 30 answered, about \d+ min left", count.text_content())
        bar = page.locator("#bar")
        assert (bar.get_attribute("aria-valuenow"), bar.get_attribute("aria-valuemax")) == ("25", "30")
        assert page.evaluate("parseFloat(document.querySelector('#bar i').style.width)") == pytest.approx(
            100 * 25 / 30, abs=0.01
        )
        page.keyboard.press("z")  # to take one back ends the row
        until(page, "document.getElementById('count').textContent.startsWith('24 of 30')")
        press(page, "2")
        assert "in a row" not in page.locator("#said").text_content() and page.evaluate("streak") == 1
        assert len(answered(page, ledger, 25)) == 25 and not page.troubles
