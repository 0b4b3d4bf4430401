"""Two processes that find each other and add up a number: what every run of several processes begins with.

python -m limner.machine.pair RANK FILE
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

SECONDS = 120
"""Given to both to start, to import torch, and to answer."""
SIZE = 2
NO_ANSWER = "no answer"
"""How it begins what is said of processes that were too slow, or hang."""


def round_trip(seconds: float = SECONDS) -> str:
    """Let two processes add up their ranks over gloo on this machine; return "" or, in a line, what went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "rendezvous"
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "limner.machine.pair", str(rank), str(place)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(SIZE)
        ]
        end = time.monotonic() + seconds
        try:
            said = [process.communicate(timeout=max(0.0, end - time.monotonic()))[1] for process in started]
        except subprocess.TimeoutExpired:
            return f"{NO_ANSWER} in {seconds:g} s"
        finally:
            for process in started:
                process.kill()
                process.wait()
    failed = [text for process, text in zip(started, said, strict=True) if process.returncode]
    return (failed[0].strip().splitlines() or ["it ended without a word"])[-1] if failed else ""


def member(rank: int, place: str) -> None:
    """Be one of the two."""
    import torch
    from torch import distributed

    wait = timedelta(seconds=SECONDS)
    distributed.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=SIZE, timeout=wait)
    total = torch.tensor([float(rank + 1)])
    distributed.all_reduce(total)
    distributed.destroy_process_group()
    if total.item() != sum(range(1, SIZE + 1)):
        raise RuntimeError(f"the sum of {SIZE} processes was {total.item():g}")


if __name__ == "__main__":
    member(int(sys.argv[1]), sys.argv[2])
