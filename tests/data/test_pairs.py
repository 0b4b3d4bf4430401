"""Pictures as people have them, and what is wrong with some."""

from __future__ import annotations

import json
import os
import struct
import warnings
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from limner.core.errors import UserError
from limner.core.media import Videos
from limner.core.picture import paced
from limner.data.pairs import read_clip, read_frames, read_pairs, read_picture, read_saved

SIDE = 8
GREY = np.linspace(0, 65535, SIDE * SIDE).reshape(SIDE, SIDE).astype(np.uint16)


def halves(left: tuple[int, ...], right: tuple[int, ...], mode: str) -> Image.Image:
    """Return a picture of two colours side by side."""
    picture = Image.new(mode, (SIDE, SIDE), left)
    picture.paste(right, (SIDE // 2, 0, SIDE, SIDE))
    return picture


def corners(path: Path) -> tuple[list[float], list[float]]:
    """Return the colours at the top left and the bottom right."""
    pixels = read_picture(path, SIDE, SIDE)
    assert pixels.shape == (3, SIDE, SIDE) and pixels.dtype == torch.float32
    return pixels[:, 0, 0].tolist(), pixels[:, -1, -1].tolist()


def test_a_clip_is_read_frame_by_frame_as_it_was_saved(tmp_path: Path) -> None:
    """Equal neighbours are one longer frame of WebP, and frames again here; MP4 is as near as its code allows."""
    levels = torch.randint(0, 256, (1, 5, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    levels[:, 2] = levels[:, 1]
    levels[:, 3] = levels[:, 1]
    exact, smooth = tmp_path / "exact.webp", tmp_path / "smooth.mp4"
    Videos(levels, 8.0).save([exact])
    assert torch.equal((read_clip(exact, 5, 16, 16) * 255).round().byte(), levels[0])
    assert torch.equal(read_clip(exact, 3, 16, 16), read_clip(exact, 5, 16, 16)[:3])
    assert torch.equal(read_clip(exact.read_bytes(), 5, 16, 16), read_clip(exact, 5, 16, 16))
    grey = torch.linspace(0.2, 0.8, 5).view(1, 5, 1, 1, 1).expand(1, 5, 3, 16, 16)
    Videos(grey, 8.0).save([smooth])
    torch.testing.assert_close(read_clip(smooth, 5, 16, 16), grey[0], atol=0.03, rtol=0)
    with pytest.raises(UserError, match="exact.webp has 5 frames, and the model draws 9: give longer ones"):
        read_clip(exact, 9, 16, 16)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no clip")
    with pytest.raises(UserError, match=r"clip .*broken\.mp4 cannot be read"):
        read_clip(broken, 5, 16, 16)


def test_a_video_whose_rate_varies_is_read_at_an_even_one(tmp_path: Path) -> None:
    """Frames begin at 0, 1, 3, 4, 7 and 8 eighths of a second: the second stays twice as long, the fourth thrice."""
    with av.open(str(tmp_path / "odd.mp4"), mode="w") as file:
        stream = file.add_stream("libx264", rate=8, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = 16, 16, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 8)
        for level, begun in zip((30, 70, 110, 150, 190, 230), (0, 1, 3, 4, 7, 8), strict=True):
            frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), level, np.uint8), format="rgb24")
            frame.pts, frame.time_base = begun, Fraction(1, 8)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    shown, pause = paced(tmp_path / "odd.mp4", 99)
    levels = np.array([np.median(np.asarray(each)) for each in shown]) / 255
    expected = np.array([30, 70, 70, 110, 150, 150, 150, 190, 230]) / 255
    np.testing.assert_allclose(levels, expected, rtol=0, atol=0.016)
    assert pause == 125 and len(paced(tmp_path / "odd.mp4", 6)[0]) == 6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_says_which_side_is_up(tmp_path: Path, orientation: int) -> None:
    """The orientation names where the first row and column of what is stored lie in the picture."""
    stored = np.zeros((4, 6, 3), np.uint8)
    stored[:2, :2] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "p.png", exif=exif)
    shown = read_picture(tmp_path / "p.png", 4, 6) if orientation < 5 else read_picture(tmp_path / "p.png", 6, 4)
    row, column = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}[
        orientation
    ]
    assert shown[:, row, column].tolist() == [1, 0, 0]
    assert shown[0].sum() == 4


@pytest.mark.parametrize("kind", ["rgba.png", "rgba.webp", "la.png", "palette.png", "palette.gif", "colour.png"])
def test_what_is_transparent_shows_white(tmp_path: Path, kind: str) -> None:
    """A black that is transparent, beside an opaque blue or grey."""
    path = tmp_path / kind
    if kind.startswith("rgba"):
        halves((0, 0, 0, 0), (0, 0, 255, 255), "RGBA").save(path, lossless=True)
    elif kind.startswith("la"):
        halves((0, 0), (51, 255), "LA").save(path)
    elif kind.startswith("palette"):
        picture = halves((0, 0, 0), (0, 0, 255), "RGB").convert("P", palette=Image.Palette.ADAPTIVE)
        picture.save(path, transparency=picture.getpixel((0, 0)))
    else:
        halves((0, 0, 0), (0, 0, 255), "RGB").save(path, transparency=(0, 0, 0))
    left, right = corners(path)
    assert left == [1, 1, 1]
    assert right == pytest.approx([0.2, 0.2, 0.2] if kind.startswith("la") else [0, 0, 1])


def test_half_transparent_is_half_white(tmp_path: Path) -> None:
    Image.new("RGBA", (SIDE, SIDE), (255, 0, 0, 128)).save(tmp_path / "p.png")
    assert corners(tmp_path / "p.png")[0] == pytest.approx([1, 127 / 255, 127 / 255], abs=1 / 255)


@pytest.mark.parametrize("name", ["p.png", "p.tif", "p.pgm", "p.jp2"])
def test_sixteen_bits_become_eight(tmp_path: Path, name: str) -> None:
    Image.fromarray(GREY).save(tmp_path / name, **({"irreversible": False} if name == "p.jp2" else {}))
    shown = read_picture(tmp_path / name, SIDE, SIDE)
    expected = torch.from_numpy((GREY / 257).round().astype(np.float32) / 255).expand(3, SIDE, SIDE)
    torch.testing.assert_close(shown, expected, rtol=0, atol=1e-6)


def test_sixteen_bits_of_colour_and_of_transparency(tmp_path: Path) -> None:
    rows = b"".join(b"\0" + struct.pack(">6H", 65535, 32896, 0, 257, 0, 65535) for _ in range(2))
    png(tmp_path / "rgb.png", struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0), zlib.compress(rows))
    assert read_picture(tmp_path / "rgb.png", 2, 2)[:, 0].T.flatten().tolist() == pytest.approx(
        [1, 128 / 255, 0, 1 / 255, 0, 1]
    )
    Image.fromarray(GREY).save(tmp_path / "grey.png", transparency=0)
    left, right = corners(tmp_path / "grey.png")
    assert left == right == [1, 1, 1]


def test_cmyk_palette_and_one_bit(tmp_path: Path) -> None:
    halves((0, 255, 255, 0), (0, 0, 0, 255), "CMYK").save(tmp_path / "p.tif")
    left, right = corners(tmp_path / "p.tif")
    assert left == pytest.approx([1, 0, 0]) and right == pytest.approx([0, 0, 0])
    Image.new("CMYK", (SIDE, SIDE), (0, 255, 255, 0)).save(tmp_path / "p.jpg", quality=100)
    assert corners(tmp_path / "p.jpg")[0] == pytest.approx([1, 0, 0], abs=0.02)
    halves((255, 0, 0), (0, 255, 0), "RGB").convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "p.png")
    assert corners(tmp_path / "p.png") == ([1, 0, 0], [0, 1, 0])
    halves((0,), (1,), "1").save(tmp_path / "p.png")
    assert corners(tmp_path / "p.png") == ([0, 0, 0], [1, 1, 1])


def test_a_photograph_with_its_preview_is_one_picture(tmp_path: Path) -> None:
    red, small = Image.new("RGB", (SIDE, SIDE), "red"), Image.new("RGB", (2, 2), "blue")
    red.save(tmp_path / "p.jpg", format="MPO", save_all=True, append_images=[small], quality=100)
    assert Image.open(tmp_path / "p.jpg").format == "MPO"
    assert corners(tmp_path / "p.jpg")[0] == pytest.approx([1, 0, 0], abs=0.02)


def test_a_thin_picture_is_cut_before_it_is_enlarged(tmp_path: Path) -> None:
    """Enlarged first it would have 512 x 20,480,000 pixels."""
    Image.new("RGB", (1, 40_000), "red").save(tmp_path / "p.png")
    assert read_picture(tmp_path / "p.png", 512, 512).mean((1, 2)).tolist() == [1, 0, 0]


def png(path: Path, header: bytes, data: bytes) -> None:
    """Write a PNG of these parts."""
    parts = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def animation(path: Path) -> None:
    frames = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def cut(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def bomb(path: Path) -> None:
    png(path, struct.pack(">IIBBBBB", 10_000, 10_000, 8, 0, 0, 0, 0), zlib.compress(b"\0" * 10_001))


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("p.gif", animation, "holds several pictures (GIF)"),
        ("p.webp", animation, "holds several pictures (WEBP)"),
        ("p.png", animation, "holds several pictures (PNG)"),
        ("p.tif", animation, "holds several pictures (TIFF)"),
        ("p.tif", lambda path: Image.fromarray(GREY.astype(np.float32)).save(path), "numbers is unknown (mode F)"),
        ("p.tif", lambda path: Image.fromarray(GREY.astype(np.int32)).save(path), "numbers is unknown (mode I)"),
        ("p.jpg", cut, "truncated"),
        ("p.png", cut, "truncated"),
        ("p.png", bomb, "decompression bomb"),
        ("p.png", lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid"), "git lfs pull"),
        ("p.eps", lambda path: path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n"), "a program"),
        ("p.png", lambda path: path.write_text("no picture"), "no picture of a kind known here"),
        ("p.png", lambda path: path.write_bytes(b""), "no picture of a kind known here"),
        ("p.png", Path.mkdir, "Is a directory"),
        ("p.png", lambda path: None, "No such file or directory"),
        ("p" * 300, lambda path: None, "File name too long"),
        ("p\0.png", lambda path: None, "null byte"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_found_with_the_folder(
    tmp_path: Path, name: str, write: Callable[[Path], object], message: str
) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "good.png")
    write(tmp_path / name)
    index(tmp_path, {"file_name": "good.png", "text": "a"}, {"file_name": name, "text": "b"})
    with pytest.raises(UserError) as caught:
        read_pairs(tmp_path)
    said = str(caught.value)
    assert said.startswith(f"picture {tmp_path / name} cannot be read: ") and message in said and "\n" not in said


def index(folder: Path, *lines: object, end: str = "\n") -> None:
    (folder / "metadata.jsonl").write_bytes(end.join(json.dumps(line) for line in lines).encode())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"file_name": "p.png"}, 'no key "prompt" or "text" (keys: none)'),
        ({"prompt": "a"}, 'no key "file_name" (keys: prompt)'),
        ({"file_name": "p.png", "text": None}, '"text" must be a text that is not empty, got None'),
        ({"file_name": "p.png", "text": 5}, '"text" must be a text that is not empty, got 5'),
        ({"file_name": "p.png", "prompt": ["a", "b"]}, "\"prompt\" must be a text that is not empty, got ['a', 'b']"),
        ({"file_name": 7, "text": "a"}, '"file_name" must be a text that is not empty, got 7'),
        (["p.png", "a"], "expected an object"),
    ],
)
def test_a_line_says_which_picture_and_what_it_shows(tmp_path: Path, line: object, message: str) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "p.png")
    index(tmp_path, {"file_name": "p.png", "text": "a"}, line)
    with pytest.raises(UserError) as caught:
        read_pairs(tmp_path)
    assert str(caught.value).startswith(f"pictures {tmp_path / 'metadata.jsonl'}, line 2: {message}")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_they_do_anywhere(tmp_path: Path, end: str) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "p.png")
    (tmp_path / "metadata.jsonl").write_bytes(
        f'{{"file_name": "p.png", "text": "two red\u2028stars"}}{end}{{"file_name": "p.png", "prompt": "b"}}'.encode()
    )
    assert [prompt.text for _, prompt in read_pairs(tmp_path)] == ["two red\u2028stars", "b"]


def test_a_pipe_is_no_picture_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UserError, match="pipe.png cannot be read: not a plain file"):
        read_picture(tmp_path / "pipe.png", SIDE, SIDE)


def test_a_damaged_picture_is_one_line_and_no_warning(tmp_path: Path) -> None:
    """What Pillow thinks of a file that is cut is no line of its own, and no object of Python stands in ours."""
    cut = tmp_path / "cut.tif"
    Image.new("RGB", (SIDE, SIDE)).save(cut)
    cut.write_bytes(cut.read_bytes()[:60])
    with warnings.catch_warnings(record=True) as said, pytest.raises(UserError) as error:
        read_picture(cut, SIDE, SIDE)
    assert not said and str(error.value) == f"picture {cut} cannot be read: it holds no picture of a kind known here"


@pytest.mark.parametrize("levels", [[10, 60, 110, 200], [10, 10, 10, 10], [10, 10, 90, 90], [10, 90, 90, 90]])
def test_a_clip_is_read_as_it_was_saved_whatever_frames_are_equal(tmp_path: Path, levels: list[int]) -> None:
    """Equal neighbours become one longer frame in the file; of all still, or equally long ones, the number tells."""
    values = torch.tensor(levels, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 16, 16).contiguous()
    Videos(values[None], 8.0).save([tmp_path / "clip.webp"])
    found = read_saved(tmp_path / "clip.webp", 4)
    assert (found * 255).round().byte().equal(values)
    if len(set(levels)) == 4:
        with pytest.raises(UserError, match="clip .*clip.webp has 4 frames, and was saved with 5"):
            read_saved(tmp_path / "clip.webp", 5)


def test_frames_of_a_clip_are_chosen_at_even_distances(tmp_path: Path) -> None:
    levels = torch.arange(10, dtype=torch.uint8) * 20
    Videos(levels[None, :, None, None, None].expand(-1, -1, 3, 16, 16).contiguous(), 8.0).save([tmp_path / "c.webp"])
    shown = read_frames(tmp_path / "c.webp", 4, 8)
    assert (shown[:, 0, 0, 0] * 255).round().tolist() == [20, 60, 120, 160]  # frames 1, 3, 6, 8 of ten
    Image.new("RGB", (12, 9), (50, 60, 70)).save(tmp_path / "p.png")
    assert (read_frames(tmp_path / "p.png", 4, 8)[:, :, 0, 0] * 255).round().tolist() == [[50, 60, 70]]
