"""The page in a real browser: Chromium, if it is installed."""

import io
import json
import re
from importlib.resources import files

import numpy as np
import pytest
from PIL import Image

from feedback.collection import ledger_of, two_folders
from feedback.paged import CHROMIUM, WITHOUT, answered, opened, press, shown, until
from feedback.test_desk import hosted
from limner.feedback.choosing import Asking
from limner.feedback.gold import gold, misplaced, spoil
from limner.feedback.ledger import Ledger
from limner.feedback.sources import gather
from limner.feedback.standing import standing

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=WITHOUT)


def checks(ledger, name):
    return standing(ledger)["annotators"][name]


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


@pytest.mark.parametrize("keys", ["Control+z", "Meta+z"])
def test_an_answer_is_taken_back_as_elsewhere(browser, place, keys):
    """Cmd+Z on a Mac; with Ctrl or Cmd no other key means anything here."""
    ledger, link = place
    page = opened(browser, link)
    voted = press(page, "1")
    answered(page, ledger, 1)
    modifier = keys.split("+")[0]
    page.evaluate(
        "m => document.body.dispatchEvent(new KeyboardEvent('keydown', {key: '2', [m]: true, bubbles: true}))",
        {"Control": "ctrlKey", "Meta": "metaKey"}[modifier],
    )
    page.keyboard.press(keys)
    until(page, f"current.id === {voted}")
    answered(page, ledger, 0)
    assert not page.troubles


def paint(page, box, *places):
    """Paint with one stroke; a place is shares of the width and the height."""
    for i, (x, y) in enumerate(places):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        if not i:
            page.mouse.down()
    page.mouse.up()


def test_marks_words_and_reasons_travel(browser, place):
    ledger, link = place
    page = opened(browser, link)
    id = shown(page)
    page.keyboard.press("a")
    box = page.locator(".frame").nth(1).bounding_box()
    page.keyboard.press("]")
    paint(page, box, (0.25, 0.5), (0.5, 0.5), (0.5, 0.75))
    page.keyboard.press("x")
    page.keyboard.press("+")  # twice as near and more: what is marked is the same place
    paint(page, box, (0.5, 0.5))
    page.keyboard.press("Escape")
    drawn = page.locator(".frame >> nth=1 >> path.spot")
    assert drawn.count() == 2 and drawn.first.get_attribute("d") == "M250 500L500 500L500 750"
    assert drawn.first.get_attribute("stroke-width") == "200"
    seen = np.asarray(Image.open(io.BytesIO(page.screenshot(clip=box))).convert("RGB")).astype(int)
    coloured = [np.ptp(seen[len(seen) // 2, round(x * seen.shape[1])]) for x in (0.3, 0.51, 0.8)]
    assert coloured[0] > 20 < coloured[1] and coloured[2] == 0  # the pictures are grey
    page.click("#prompt button >> nth=1")
    page.select_option("#strength", "3")
    page.fill("#why", "the edge is broken")
    page.locator("h1").click()
    press(page, "1")
    [vote] = answered(page, ledger, 1)
    stroke, spot = vote.payload["marks"]
    assert stroke["item"] == spot["item"] == ledger.board.assignments[id].order[1]
    assert (stroke["kind"], spot["kind"]) == ("artifact", "misalignment")
    assert stroke["points"] == [[0.25, 0.5], [0.5, 0.5], [0.5, 0.75]] and stroke["r"] == 0.1
    assert spot["points"] == [[0.5, 0.5]]
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
    left = page.locator(".frame >> nth=0 >> img >> visible=true")
    own, other = (page.evaluate(f"current.media[{i}].url") for i in range(2))
    page.keyboard.down("Tab")
    assert left.get_attribute("src") == other
    page.keyboard.press("a")
    paint(page, page.locator(".frame").first.bounding_box(), (0.5, 0.5))
    assert page.evaluate("state.marks[0].item") == 1  # whose picture is seen there
    page.keyboard.up("Tab")
    assert left.get_attribute("src") == own
    page.keyboard.press("+")
    transforms = {sheet.evaluate("sheet => sheet.style.transform") for sheet in page.locator(".sheet").all()}
    assert len(transforms) == 1 and "scale(1.5)" in transforms.pop()
    page.keyboard.press("Escape")
    assert "scale(1)" in page.locator(".sheet").first.evaluate("sheet => sheet.style.transform") and not page.troubles


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
        row = {"file_name": f"{source}/prompt {name}a.png", "prompt": name, "source": source, "sensitive": name == "0"}
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
    transforms = {sheet.evaluate("sheet => sheet.style.transform") for sheet in page.locator(".sheet").all()}
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
    rows = [{"file_name": f"good/prompt {i}a.png", "prompt": "one", "source": f"s{i}"} for i in range(3)]
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


REDS = """media().map((image) => {
  const brush = document.createElement("canvas").getContext("2d");
  brush.drawImage(image, 0, 0);
  return brush.getImageData(1, 1, 1, 1).data[0];
})"""
"""How red each picture is."""


def test_known_answers_by_other_prompts_pictures_are_asked_and_told(browser, tmp_path):
    """Who reads, and takes the picture of the prompt, is right each time; who takes the other one never."""
    place = tmp_path / "set"
    place.mkdir()
    words = ("red", "green", "blue", "white")
    with (place / "metadata.jsonl").open("w") as index:
        for level, word in enumerate(words):
            for source in ("base", "tuned"):
                name = f"{word}-{source}.png"
                Image.new("RGB", (24, 24), (40 * level, 10 * (source == "base"), 0)).save(place / name)
                index.write(json.dumps({"file_name": name, "prompt": word, "source": source}) + "\n")
    items, tasks = gather(place)
    ledger = Ledger(f"sqlite:///{tmp_path / 'votes.db'}", Asking(gold=0.99, repeat=0.0))
    others, known = misplaced(items, 4)
    ledger.add([*items, *others], [*tasks, *known])
    with hosted(ledger) as url:
        for right, (name, token) in zip((True, False), ledger.invite(2), strict=True):
            page = opened(browser, f"{url}/#{token}")
            said = 0
            while said < 4:
                id = shown(page)
                if ledger.board.assignments[id].source != "gold":
                    press(page, "s")
                    continue
                said += 1
                shade = page.evaluate(REDS)
                meant = shade.index(40 * words.index(page.evaluate("current.prompt")))
                assert len(set(shade)) == 2
                press(page, str(1 + (meant if right else 1 - meant)))
            until(page, "!stored().length")
            assert checks(ledger, name)["gold"] == float(right) and not page.troubles


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
