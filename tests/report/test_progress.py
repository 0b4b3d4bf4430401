from __future__ import annotations

import io

import pytest

from limner.report.progress import Progress


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_terminal_line_is_rewritten_in_place() -> None:
    stream, clock = Terminal(), Clock()
    progress = Progress("scenes", 4, stream=stream, clock=clock)
    progress.phase("rollout")
    clock.now = 2.0
    progress.step(1, 0.5, 0.25)
    progress.phase("update", 0.5)
    last = stream.getvalue().split("\r")[-1]
    assert "\n" not in stream.getvalue()
    assert "1/4" in last and "update 50%" in last and "reward 0.500 ± 0.250" in last and "0:06 left" in last
    progress.close()
    assert stream.getvalue().endswith("\n")


def test_a_shorter_line_covers_a_longer_one() -> None:
    stream = Terminal()
    progress = Progress("scenes", 4, stream=stream, clock=Clock())
    progress.phase("evaluate", 0.5)
    progress.phase("rollout")
    first, second = stream.getvalue().split("\r")[1:]
    assert len(second) >= len(first)


def test_time_left_counts_the_closing_evaluation() -> None:
    clock = Clock()
    progress = Progress("scenes", 10, stream=io.StringIO(), clock=clock)
    clock.now = 5.0
    progress.phase("evaluate", 0.0)
    progress.phase("evaluate", 0.5)
    clock.now = 25.0
    progress.phase("rollout")
    assert progress.seconds_left() is None
    for done in range(1, 5):
        clock.now += 3.0
        progress.step(done, 0.0, 0.0)
    assert progress.seconds_left() == pytest.approx(6 * 3.0 + 20.0)
    clock.now += 1.0
    assert progress.seconds_left() == pytest.approx(6 * 3.0 + 19.0)


@pytest.mark.parametrize("quiet", [False, True])
def test_plain_lines_come_at_most_every_few_seconds_and_for_the_last(quiet: bool) -> None:
    stream, clock = Terminal() if quiet else io.StringIO(), Clock()
    progress = Progress("scenes", 12, quiet=quiet, every=5.0, stream=stream, clock=clock)
    for done in range(1, 13):
        progress.phase("rollout")
        clock.now += 1.0
        progress.step(done, 0.1, 0.2)
    progress.close()
    lines = stream.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["5/12", "10/12", "12/12"]
    assert "\r" not in stream.getvalue()


def test_a_terminal_without_unicode_gets_ascii() -> None:
    stream = Terminal()
    stream.encoding = "ascii"
    Progress("scenes", 4, stream=stream, clock=Clock()).step(2, 0.0, 0.0)
    assert stream.getvalue().isascii() and "#" in stream.getvalue()


def test_in_a_notebook_it_is_a_bar_of_tqdm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("limner.report.progress.in_notebook", lambda: True)
    progress = Progress("scenes", 4)
    progress.phase("rollout")
    progress.step(1, 0.5, 0.25)
    progress.phase("evaluate", 0.5)
    progress.say("note: three floors")
    assert (progress.bar.n, progress.bar.total, progress.bar.desc) == (1, 4, "scenes")
    assert progress.bar.postfix == "evaluate 50%  reward 0.500 ± 0.250"
    progress.close()
    assert progress.bar.disable
    told = capsys.readouterr().err
    assert "note: three floors\n" in told and "1/4" in told


def test_quiet_or_into_a_file_a_notebook_has_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limner.report.progress.in_notebook", lambda: True)
    assert Progress("scenes", 4, quiet=True).bar is None and Progress("scenes", 4, stream=io.StringIO()).bar is None
