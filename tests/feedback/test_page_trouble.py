"""The page in a real browser when something goes wrong: the connection, a second tab, files, the browser itself."""

import pytest

from feedback.paged import CHROMIUM, WITHOUT, answered, opened, press, shown, until

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=WITHOUT)


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


def test_what_cannot_be_shown_is_reported_and_the_others_go_on(browser, place):
    """A file that is gone is found while it is fetched; one that is damaged, when it is to be shown."""
    ledger, link = place
    paths = [each.path for each in ledger.board.items.values()]
    for path in paths[:2]:
        path.unlink()
    for path in paths[2:]:
        path.write_bytes(path.read_bytes()[:40])
    page = opened(browser, link)
    until(page, "document.getElementById('said').textContent.includes('cannot be shown')")
    press(page, "f")
    thanks = "document.getElementById('question').textContent.includes('Thank you')"
    until(page, f"current || {thanks}")
    while page.evaluate("Boolean(current)"):
        press(page, "s")
        until(page, f"current || {thanks}")
    assert page.evaluate("document.getElementById('count').textContent").startswith("16 of")
    why = [each.payload["text"] for each in ledger.answers("flag")]
    assert sorted(set(why)) == ["", "the file is gone"] and not page.troubles


def test_answers_that_are_long_or_late_arrive(browser, place):
    """More than one request holds, after days, and with as many marks as there may be."""
    ledger, link = place
    page = opened(browser, link)
    page.context.set_offline(True)
    ids = []
    for _ in range(2):
        shown(page)
        page.evaluate("""() => {
          state.start -= 3 * 86_400_000;
          $("why").value = "\u4f60".repeat(2000);
          state.marking = "artifact";
          const frame = document.querySelector(".frame"), box = frame.getBoundingClientRect();
          for (let n = 0; n < 100; n++) {
            let stroke = null;
            for (let i = 0; i < 40; i++) {
              const clientX = box.left + box.width * (i + .123) / 40;
              stroke = dab(frame, { clientX, clientY: box.top + box.height * (n + .456) / 100 }, stroke);
            }
          }
        }""")
        assert "as much as can be marked" in page.locator("#said").text_content()
        ids.append(press(page, "1"))
    page.context.set_offline(False)
    votes = answered(page, ledger, 2)
    assert [vote.task for vote in votes] == [ledger.board.assignments[id].task for id in ids]
    assert all(sum(len(mark["points"]) for mark in vote.payload["marks"]) <= 2000 for vote in votes)
    assert {vote.latency_ms for vote in votes} == {86_400_000} and not page.troubles


def test_a_browser_that_keeps_nothing_says_so(browser, place):
    _, link = place
    page = browser.new_context().new_page()
    page.add_init_script("Object.defineProperty(window, 'localStorage', { get() { throw new Error('blocked'); } })")
    page.goto(link)
    until(page, "document.getElementById('question').textContent.includes('keeps nothing')")
