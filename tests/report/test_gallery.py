from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
import torch
from PIL import Image

from limner.core.media import Videos, to_image
from limner.report.gallery import GAP, LABEL, data_uri, film, grid, strips


def pictures(count: int, side: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def read(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_small_picture_survives_exactly() -> None:
    picture = pictures(1, 64)[0]
    uri = data_uri(picture)
    assert uri.startswith("data:image/png;base64,")
    assert read(uri).tobytes() == to_image(picture).tobytes()


def test_large_picture_is_webp_of_bounded_size() -> None:
    uri = data_uri(pictures(1, 300)[0], side=256)
    assert uri.startswith("data:image/webp;base64,") and read(uri).size == (256, 256)


def test_grid_holds_each_picture_enlarged_and_labelled() -> None:
    images = pictures(5, 64)
    sheet = grid(images, ["a", "b", "c", "a label far too long for its narrow tile", "e"], columns=3)
    assert sheet.size == (GAP + 3 * (128 + GAP), GAP + 2 * (128 + LABEL + GAP))
    left, top = GAP + 128 + GAP, GAP + 128 + LABEL + GAP
    tile = sheet.crop((left, top, left + 128, top + 128)).resize((64, 64), Image.Resampling.NEAREST)
    assert tile.tobytes() == to_image(images[4]).tobytes()
    label = sheet.crop((0, GAP + 128, sheet.width, GAP + 128 + LABEL)).convert("L")
    assert label.getextrema()[0] < 128  # type: ignore[operator]
    with pytest.raises(ValueError, match="5 pictures but 1 labels"):
        grid(images, ["a"], columns=3)


def test_a_strip_shows_frames_from_first_to_last(tmp_path: Path) -> None:
    levels = torch.arange(13, dtype=torch.uint8)[:, None, None, None].expand(13, 3, 8, 8) * 10
    frozen, moving = tmp_path / "frozen.webp", tmp_path / "moving.webp"
    Videos(torch.stack([levels, levels[:1].expand_as(levels)]), fps=8).save([moving, frozen])
    strip = read(film(moving))
    assert strip.size == (6 * 10 - 2, 8)
    assert [strip.getpixel((4 + 10 * i, 4))[0] for i in range(6)] == [0, 20, 50, 70, 100, 120]  # type: ignore[index]
    assert film(frozen) == "" == film(None) == film(tmp_path / "still.png")


def test_frames_of_a_clip_stand_side_by_side() -> None:
    """Of ten frames the second, fourth, sixth, eighth and tenth; a picture stays what it is."""
    levels = torch.arange(10, dtype=torch.uint8)[None, :, None, None, None].expand(2, -1, 3, 16, 32) * 20
    found = strips(levels / 255)
    assert found.shape == (2, 3, 16, 5 * 33 - 1) and found.dtype == torch.uint8
    assert found[1, 0, 5, ::33].tolist() == [20, 60, 100, 140, 180] == found[0, 2, 15, 31::33].tolist()
    assert bool((found[..., 32::33] == 255).all())
    assert torch.equal(strips(levels[:, 3:4] / 255), levels[:, 3])


def test_a_strip_is_at_even_times_whatever_frames_a_file_joins(tmp_path: Path) -> None:
    """Of a clip that moves for three frames and stays for nine all but the first of six are the last."""
    levels = torch.tensor([0, 40, 80, *[120] * 10], dtype=torch.uint8)[:, None, None, None].expand(13, 3, 8, 8)
    Videos(levels[None].contiguous(), fps=8).save([tmp_path / "stops.webp"])
    with Image.open(tmp_path / "stops.webp") as file:
        assert file.n_frames == 4  # type: ignore[attr-defined]
    strip = read(film(tmp_path / "stops.webp"))
    assert [strip.getpixel((4 + 10 * i, 4))[0] for i in range(6)] == [0, 80, *[120] * 4]  # type: ignore[index]


def test_a_heavy_clip_plays_smaller(tmp_path: Path) -> None:
    """Noise of 400 x 200 takes megabytes in a file that loses nothing; the page plays as many frames, as long."""
    levels = torch.randint(0, 256, (1, 9, 3, 200, 400), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    levels[:, 5] = levels[:, 4]
    Videos(levels, fps=16).save([tmp_path / "heavy.webp"])
    assert (tmp_path / "heavy.webp").stat().st_size > 2**20
    uri = data_uri(levels[0, 4], tmp_path / "heavy.webp")
    shown = read(uri)
    assert len(uri) < 1.4 * 2**19 and max(shown.size) in (320, 224, 160) and shown.size[0] == 2 * shown.size[1]
    stays = []
    for i in range(shown.n_frames):  # type: ignore[attr-defined]
        shown.seek(i)
        shown.load()
        stays.append(shown.info["duration"])
    assert sum(stays) == 9 * 62
