"""Questions whose answer is known: by another prompt's picture, or the same one, spoilt."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from feedback.collection import two_folders
from limner.annotate import annotate
from limner.core.errors import UserError
from limner.core.media import Videos
from limner.core.picture import paced
from limner.feedback.gold import gold, misplaced, spoil
from limner.feedback.ledger import Ledger
from limner.feedback.task import Item, Task

PROMPTS = ("a red circle", "a blue square", "two blue squares", "a red square", "")


def items(*prompts: str) -> list[Item]:
    return [
        Item(Path(f"{i}.png"), prompt, "base", f"sha-{i}", {"sensitive": i == 1}) for i, prompt in enumerate(prompts)
    ]


def test_a_picture_meets_one_whose_prompt_shares_no_word_with_its_own() -> None:
    """By hand: each meets the next one that asks for nothing of the same; articles are no words."""
    several = items(*PROMPTS)
    made, tasks = misplaced(several, 9)
    met = {several[[one.id for one in several].index(task.items[0])].prompt: task for task in tasks}
    of = {bad.id: bad.path.stem for bad in made}
    assert {prompt: of[task.items[1]] for prompt, task in met.items()} == {
        "a red circle": "1",
        "a blue square": "0",
        "two blue squares": "3",
        "a red square": "2",
    }
    assert all(task == Task("pair", prompt, task.items, better=0) for prompt, task in met.items())
    assert {bad.prompt for bad in made} == set(met) and {bad.source for bad in made} == {"misplaced"}
    [veiled] = [bad for bad in made if bad.path == several[1].path]
    assert veiled.facts == {"of": several[1].id, "sensitive": True}


def test_as_many_as_are_asked_for_and_the_same_ones_again() -> None:
    several = items(*PROMPTS)
    assert misplaced(several, 2) == misplaced(several, 2)
    assert [task.prompt for task in misplaced(several, 2)[1]] == ["a red circle", "two blue squares"]
    assert misplaced(several, 0) == ([], []) == misplaced(items("a red circle", "a red square"), 5)


def test_where_all_prompts_are_alike_the_page_does_not_begin(tmp_path: Path) -> None:
    place = two_folders(tmp_path / "set", 8)  # prompt 0a, prompt 1a, ...
    with pytest.raises(UserError, match="--known both: every two prompts of .* have a word in common"):
        annotate(place, port=0, known="both")
    assert not (place / "votes.db").exists()


def test_an_animated_picture_is_spoilt_frame_by_frame_and_as_long(tmp_path: Path) -> None:
    """30 frames of 50 ms become 15 of 100, blurred, of the same moments and brightness."""
    clip = torch.zeros(1, 30, 3, 48, 48, dtype=torch.uint8)
    for t in range(30):
        clip[0, t, :, :, t : t + 6] = 255
    Videos(clip, 20.0).save([tmp_path / "one.webp"])
    item = Item(tmp_path / "one.webp", "a bar", "base", "sha", {"sensitive": True})
    [[bad], [task]] = gold(spoil([item], 3), tmp_path / "gold")
    frames, pause = paced(bad.path, 99)
    assert (len(frames), pause, bad.path.suffix) == (15, 100, ".webp")
    assert task == Task("pair", "a bar", (item.id, bad.id), better=0) and bad.facts == {
        "of": item.id,
        "sensitive": True,
    }
    for t, frame in enumerate(frames):
        level = np.asarray(frame.convert("L"), np.float64)
        own = clip[0, 2 * t, 0].double().numpy()
        assert level.std() < 0.75 * own.std() and abs(level.mean() - own.mean()) < 8
        assert abs(level.mean(0).argmax() - (2 * t + 2.5)) < 6  # the same moment


def test_a_folder_of_animated_pictures_is_asked_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known answers are made of them too."""
    for source, level in (("a", 100), ("b", 200)):
        (tmp_path / "set" / source).mkdir(parents=True)
        for n in range(8):
            clip = torch.full((1, 3, 3, 16, 16), level, dtype=torch.uint8)
            clip[0, :, 0, 0, :3] = torch.eye(3, dtype=torch.uint8) * 9 * (n + 1)
            Videos(clip, 8.0).save([tmp_path / "set" / source / f"{n}.webp"])
    kept: list[Ledger] = []
    monkeypatch.setattr("limner.annotate.app", lambda ledger, _: kept.append(ledger))
    monkeypatch.setattr("limner.annotate.server", lambda *_: SimpleNamespace(run=lambda **_: None))
    annotate(tmp_path / "set", port=0)
    tasks = kept[0].board.tasks.values()
    assert sum(task.better is None for task in tasks) == 8 and sum(task.better == 0 for task in tasks) == 2


@pytest.mark.parametrize("frames", [1, 3])
def test_a_spoilt_picture_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: int) -> None:
    """One that a killed server was writing is written by the next, and not taken for what it was to be."""
    path = tmp_path / ("one.webp" if frames > 1 else "one.png")
    clip = Videos(
        (torch.arange(3 * frames) * 20).to(torch.uint8)[None, :, None, None, None].expand(1, -1, 3, 16, 16), 8
    )
    clip.save([path]) if frames > 1 else Image.new("RGB", (16, 16), "red").save(path)
    spoilt = spoil([Item(path, "a bar", "base", "sha")], 1)

    def killed(self: object, place: Path, *_: object, **__: object) -> None:
        Path(place).write_bytes(b"half of it")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            gold(spoilt, tmp_path / "gold")
    assert not list((tmp_path / "gold").iterdir())
    [[bad], _] = gold(spoilt, tmp_path / "gold")
    assert len(paced(bad.path, 99)[0]) == len(spoilt[0].frames)
