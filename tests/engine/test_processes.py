"""What is started together ends together, and the one that failed is named."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing import parent_process

import pytest

from limner.core.errors import PEER_LOST, RunError
from limner.engine.processes import size_of_team, together


def _work(arguments: list[str]) -> int:
    """Be one of two, whose second is ended, fails or interrupts all, while the first works for a minute or for less."""
    fate, rank = arguments[0], os.environ["RANK"]
    assert size_of_team() == 2
    if fate == "well":
        return 0
    if rank == "1":
        match fate:
            case "ended":
                os.kill(os.getpid(), signal.SIGKILL)
            case "fails":
                os.write(2, b"a traceback\nlimner: what it was\n")
                return 2
            case "interrupts":
                parent = parent_process()
                assert parent is not None and parent.pid is not None
                os.kill(parent.pid, signal.SIGINT)
    if fate == "refused":
        return 2
    if fate != "interrupts":
        return PEER_LOST
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        return 130
    return 0


def test_all_is_well_where_all_end_well() -> None:
    together(2, _work, ["well"], "torch")
    assert size_of_team() is None


def test_one_that_is_ended_is_named() -> None:
    with pytest.raises(RunError, match="^process 1 of 2: it was ended by signal SIGKILL$"):
        together(2, _work, ["ended"], "torch")


def test_the_last_line_of_one_that_fails_is_the_error_and_what_stands_before_is_shown(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(RunError, match="^process 1 of 2: what it was$"):
        together(2, _work, ["fails"], "torch")
    assert capfd.readouterr().err == "a traceback\n"


def test_what_the_first_has_said_is_not_said_again() -> None:
    with pytest.raises(SystemExit, match="^2$"):
        together(2, _work, ["refused"], "torch")


def test_an_interruption_is_handed_on_to_all() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    began = time.monotonic()
    try:
        with pytest.raises(SystemExit, match="^130$"):
            together(2, _work, ["interrupts"], "torch")
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - began < 50
