from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from limner.core.errors import UserError
from limner.core.media import Images, Videos, levels, unit
from limner.core.types import Prompt
from limner.judging.checked import Checked

ALL = torch.arange(256, dtype=torch.uint8)


def test_every_level_survives_as_a_number() -> None:
    assert unit(ALL).dtype == torch.float32 and torch.equal(levels(unit(ALL)), ALL)
    assert torch.equal(unit(ALL), torch.tensor([k / 255 for k in range(256)]))
    for kind in (torch.float32, torch.float64):
        assert torch.equal(levels(ALL.to(kind) / 255), ALL)


def test_levels_are_nearest_and_bounded() -> None:
    values = torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0, torch.nan, torch.inf, -torch.inf])
    assert levels(values).tolist() == [0, 0, 128, 255, 255, 0, 255, 0]
    drawn = torch.rand(10_000, generator=torch.Generator().manual_seed(0))
    assert np.array_equal(levels(drawn).numpy(), np.rint(drawn.numpy() * np.float32(255)).astype(np.uint8))


def test_what_is_kept_is_a_quarter_and_is_judged_alike() -> None:
    """To the bit: as levels, and as the numbers they came from, rounded in float32."""
    pixels = torch.rand(3, 3, 40, 40, generator=torch.Generator().manual_seed(1)) * 1.2 - 0.1
    kept = Images(pixels).rounded()
    assert kept.values.nbytes * 4 == pixels.nbytes
    assert torch.equal(kept.pixels, (pixels.clamp(0, 1) * 255).round() / 255)
    judge = Checked("odd", lambda media, prompts: (media.frames() ** 1.7).sin().sum((1, 2, 3, 4)))
    prompts = [Prompt("")] * 3
    assert torch.equal(judge(kept, prompts).score, judge(Images(pixels), prompts).score)
    assert torch.equal(judge(Images(kept.pixels), prompts).score, judge(kept, prompts).score)


def test_pictures_are_saved_as_they_are_judged(tmp_path: Path) -> None:
    media = Images(torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(2)))
    media.save([tmp_path / "a.png", tmp_path / "b.png"])
    read = np.stack([np.asarray(Image.open(tmp_path / name)) for name in ("a.png", "b.png")])
    assert torch.equal(torch.from_numpy(read).permute(0, 3, 1, 2), media.stills())
    assert torch.equal(unit(media.stills()), media.rounded().frames()[:, 0])


def clips() -> Videos:
    return Videos(torch.rand(2, 5, 3, 9, 7, generator=torch.Generator().manual_seed(3)), fps=8)


def test_clips_are_saved_as_they_are_judged(tmp_path: Path) -> None:
    media, paths = clips(), [tmp_path / "a.webp", tmp_path / "b.webp"]
    media.save(paths)
    for path, clip in zip(paths, media.rounded().values, strict=True):
        shown = Image.open(path)
        frames = np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(shown)])
        assert torch.equal(torch.from_numpy(frames).permute(0, 3, 1, 2), clip) and shown.info["duration"] == 125
    assert torch.equal(media.stills(), levels(media.values[:, 2])) and len(media) == 2
    assert media.rounded().values.dtype == torch.uint8 and media.rounded().fps == 8


def test_clips_are_saved_as_their_names_end(tmp_path: Path) -> None:
    media = Videos(torch.linspace(0, 1, 5)[None, :, None, None, None].expand(1, 5, 3, 9, 7), fps=8)
    media.save([tmp_path / "a.gif"])
    shown = Image.open(tmp_path / "a.gif")
    grey = [np.asarray(frame.convert("L")).mean() for frame in ImageSequence.Iterator(shown)]
    assert np.abs(np.array(grey) - np.linspace(0, 255, 5)).max() <= 2
    av = pytest.importorskip("av")
    media.save([tmp_path / "a.mp4"])
    with av.open(str(tmp_path / "a.mp4")) as file:
        assert file.streams.video[0].average_rate == 8
        read = np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])
    assert read.shape == (5, 10, 8, 3) and np.abs(read.mean((1, 2, 3)) - np.linspace(0, 255, 5)).max() <= 4


@pytest.mark.parametrize(("frames", "fps", "why"), [(3, 0.0, "fps"), (3, torch.nan, "fps"), (0, 8, "one frame")])
def test_clips_that_are_none_are_refused(frames: int, fps: float, why: str) -> None:
    with pytest.raises(UserError, match=why):
        Videos(torch.zeros(1, frames, 3, 4, 4), fps)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".gif", ".mp4"])
def test_a_file_is_whole_or_absent(tmp_path, monkeypatch, suffix):
    """Whoever writes it is stopped in the middle: nothing has its name; then it is written as ever."""
    path = tmp_path / f"one{suffix}"
    media = Videos(torch.rand(1, 3, 3, 8, 8), 8.0) if suffix != ".png" else Images(torch.rand(1, 3, 8, 8))
    seen = []

    def stopped(self, place, *_, **__):
        Path(place).write_bytes(b"half of it")
        seen.extend(each.name for each in tmp_path.iterdir())
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if suffix == ".mp4":
            av = pytest.importorskip("av", reason="av writes .mp4")
            patch.setattr(av.VideoFrame, "from_ndarray", lambda *_, **__: stopped(None, tmp_path / ".one.mp4.part"))
        else:
            patch.setattr(Image.Image, "save", stopped)
        with pytest.raises(KeyboardInterrupt):
            media.save([path])
    assert seen == [f".one{suffix}.part"] and not list(tmp_path.iterdir())
    media.save([path])
    assert [each.name for each in tmp_path.iterdir()] == [path.name] and path.stat().st_size > 30
