"""A judge in workers of a Ray cluster: what it says, what it costs to lose one, and what is refused."""

from __future__ import annotations

import importlib.util
import os
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from limner.cluster.place import Place
from limner.cluster.pool import Lost
from limner.core.errors import BrokenReward, JudgeFailure, UserError
from limner.core.media import Images
from limner.core.types import Prompt, RewardSpec
from limner.judges import compose
from limner.rewards.algebra.parse import parse
from limner.rewards.placed import Placed

MEDIA = Images(torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(3)))
REWARD = '''
import os
import signal
from pathlib import Path

from limner import RewardOutput
from limner.core.errors import JudgeFailure


def level(media, prompts):
    """The mean level and its process; a prompt may ask it to end, once or always, to fail, or to be wrong."""
    asked = prompts[0].text
    if asked == "end" or (asked == "end once" and not Path("ended").exists()):
        Path("ended").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if asked == "fail":
        raise JudgeFailure("no verdict")
    if asked == "break":
        raise KeyError("colour")
    score = media.frames().mean((1, 2, 3, 4))
    return RewardOutput(score, score > 0.48, {"process": score * 0 + os.getpid()})
'''


def prompts(text: str) -> list[Prompt]:
    return [Prompt(text)] * len(MEDIA)


def test_a_judge_in_a_worker(cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file is named from the folder that limner was started in; its column is that of the judge here."""
    (tmp_path / "mine.py").write_text(REWARD)
    monkeypatch.chdir(tmp_path)
    here, there = compose("mine.py:level"), compose("ray(mine.py:level, cpus=0.5, resource='judges')")
    one, two = (each(MEDIA, prompts("as it is")) for each in (here, there))
    assert torch.equal(one.valid, two.valid) and 0 < one.valid.sum() < 5
    assert torch.equal(one.score.nan_to_num(-1), two.score.nan_to_num(-1))
    again = there(MEDIA, prompts("end once"))  # it is killed, started anew, and asked again
    assert torch.equal(again.score.nan_to_num(-1), one.score.nan_to_num(-1))
    processes = {int(each.components["level/process"][0]) for each in (one, two, again)}
    assert len(processes) == 3 and os.getpid() in processes
    assert not there(MEDIA, prompts("fail")).valid.any()
    with pytest.raises(BrokenReward, match="'level' raised KeyError at line 19 of mine.py: 'colour'"):
        there(MEDIA, prompts("break"))


def test_an_environment_of_its_own(cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the judge imports is there, and not here."""
    monkeypatch.chdir(tmp_path)
    venv.create(tmp_path / "judges", symlinks=True)
    (site,) = (tmp_path / "judges").glob("lib/python*/site-packages")
    (site / "beside.pth").write_text("\n".join(path for path in sys.path if path))
    (site / "only_there.py").write_text("WORTH = 0.75")
    (tmp_path / "mine.py").write_text(
        "import only_there\n\ndef worth(media, prompts): return [only_there.WORTH] * len(media)"
    )
    found = compose("ray(mine.py:worth, python='judges/bin/python')")(MEDIA, prompts(""))
    assert found.score.tolist() == [0.75] * 5
    assert importlib.util.find_spec("only_there") is None
    with pytest.raises(UserError, match="there is no Python elsewhere/python"):
        compose("ray(mine.py:worth, python='elsewhere/python')")


def test_a_worker_that_takes_too_long_is_given_up(cluster: None) -> None:
    with pytest.raises(UserError, match="reward jpeg_size: no answer in 0.05 seconds"):
        compose("ray(jpeg_size, seconds=0.05)")


@dataclass
class Losing:
    """Workers of which some are lost, by the first of the samples that they are asked about."""

    lost: tuple[int, ...]
    place: Place = Place(workers=3)

    def ask(self, question: Any, media: Images, asked: list[Prompt]) -> int:
        return int(asked[0].text)

    def answer(self, first: int) -> list[dict[str, Any]]:
        if first in self.lost:
            raise Lost("worker 7 ended")
        return [{"ok": True, "score": float(first), "components": {"part": 0.5}}] * (1 if first == 4 else 2)


def test_what_a_lost_worker_was_asked_is_not_judged() -> None:
    asked, spec = [Prompt(str(i)) for i in range(5)], RewardSpec("mine", "")
    found = Placed("mine", Losing((2,)), spec)(MEDIA, asked)
    assert found.valid.tolist() == [True, True, False, False, True] and found.score[found.valid].tolist() == [0, 0, 4]
    assert found.components["part"].nan_to_num(-1).tolist() == [0.5, 0.5, -1, -1, 0.5]
    with pytest.raises(JudgeFailure, match="worker 7 ended"):
        Placed("mine", Losing((0, 2, 4)), spec)(MEDIA, asked)


def test_what_the_cluster_has_not_is_refused(cluster: None) -> None:
    with pytest.raises(UserError, match="a worker takes 2 GPU of the Ray cluster, which has 0"):
        compose("ray(jpeg_size, gpus=2)")


@pytest.mark.parametrize(
    ("text", "again"),
    [
        ("ray(jpeg_size)", "ray(jpeg_size)"),
        ("2 * frames_min(ray(ocr(metric='exact'), gpus=.5, python='of judges/bin/python'))",
         "2 * frames_min(ray(ocr(metric='exact'), gpus=0.5, python='of judges/bin/python'))"),
        ("ray(scenes, workers=2).fraction", "ray(scenes, workers=2).fraction"),
    ],
)  # fmt: skip
def test_a_place_is_text_that_reads_back(text: str, again: str) -> None:
    assert str(parse(text)) == again and parse(again) == parse(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ray(jpeg_size + contrast)", "takes one judge"),
        ("ray(ray(jpeg_size))", "takes one judge"),
        ("ray(frames_min(jpeg_size))", "takes one judge"),
        ("ray(jpeg_size, gpu=1)", "no setting 'gpu'; did you mean 'gpus'"),
        ("ray(jpeg_size, gpus=-1)", "gpus must be at least 0"),
        ("ray(jpeg_size, workers=0)", "one worker at least"),
    ],
)
def test_what_is_no_place_is_refused(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse(text)
