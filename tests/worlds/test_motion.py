"""The motion world: its language, what is true of its clips, and a checker that accepts them and nothing else."""

from __future__ import annotations

import functools
import importlib.util
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from limner.core.errors import UserError
from limner.core.media import Images, Videos
from limner.core.types import Prompt
from limner.worlds.motion import CATEGORIES, VOCABULARY, Clip, Motion, caption, check, is_heldout, parse, prompts, track
from limner.worlds.motion.grammar import clauses, corrupt, noisy_caption, sample_motion
from limner.worlds.motion.render import FRAMES, SIZE, crowd, render
from limner.worlds.motion.reward import motion, motion_fraction
from limner.worlds.motion.world import Motions

Frames = NDArray[np.uint8]


@functools.cache
def renders(num: int = 120) -> list[tuple[Motion, Clip]]:
    rng = np.random.default_rng(0)
    motions = [sample_motion(rng) for _ in range(num)]
    return [(each, render(each, rng)) for each in motions]


@functools.cache
def drawn(text: str, seed: int = 0) -> Clip:
    return render(parse(text), np.random.default_rng(seed))


def test_captions_are_read_back_and_known_to_the_vocabulary() -> None:
    everything = prompts("train") + prompts("heldout")
    assert Counter(p.category for p in everything) == dict.fromkeys(CATEGORIES, 154)
    for prompt in everything:
        assert caption(parse(prompt.text)) == prompt.text
        assert set(prompt.text.split()) <= set(VOCABULARY.words)
        assert len(prompt.text.split()) + 2 <= VOCABULARY.max_length


def test_no_heldout_motion_is_trained_on() -> None:
    assert all(is_heldout(parse(p.text)) for p in prompts("heldout"))
    assert not any(is_heldout(parse(p.text)) for p in prompts("train"))
    assert is_heldout(parse("a red star and a blue circle cross")) == is_heldout(
        parse("a blue circle and a red star cross")
    )
    rng = np.random.default_rng(0)
    noisy = [(each, noisy_caption(each, rng, 0.5)) for each in (sample_motion(rng) for _ in range(200))]
    assert not any(is_heldout(parse(text)) for _, text in noisy)
    assert 0.4 < np.mean([caption(each) != text for each, text in noisy]) < 0.6


@pytest.mark.parametrize("text", ["a red dog falls", "a red star", "a red star and a red circle cross", ""])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="motion prompt"):
        parse(text)


def test_what_is_true_of_a_clip_agrees_with_its_pixels() -> None:
    """Centres are those of the masks, and velocities the differences of centres."""
    axis = np.arange(SIZE) + 0.5
    for wanted, clip in renders():
        assert clip.frames.shape == (FRAMES, SIZE, SIZE, 3) and clip.flow.shape == (FRAMES - 1, 2, SIZE, SIZE)
        front = clip.masks[:, clip.depth[-1]]
        mass = front.sum((1, 2))
        found = np.stack([(front.sum(1) * axis).sum(1) / mass, (front.sum(2) * axis).sum(1) / mass], axis=1)
        assert np.abs(found - clip.positions[:, clip.depth[-1]]).max() < 0.25
        assert (clip.masks.sum(1) <= 1 + 1e-9).all()
        if wanted.category != "bounce":
            middle = (clip.velocities[1:] + clip.velocities[:-1]) / 2
            assert np.allclose(np.diff(clip.positions, axis=0), middle, atol=1e-9)


def test_of_a_crowd_the_nearest_is_seen_whole_and_no_pixel_twice() -> None:
    """Two motions that hide parts of one another, which the nearest thing alone hides none of."""
    pair = [parse("a red star passes behind a blue square"), parse("a green circle falls")]
    clip = crowd(pair, np.random.default_rng(3))
    nearest, farthest = clip.depth[-1], clip.depth[0]
    seen = clip.masks.sum((2, 3))
    assert sorted(clip.depth) == [0, 1, 2] and clip.masks.sum(1).max() <= 1 + 1e-9
    assert np.ptp(seen[:, nearest]) < 1.5 and np.ptp(seen[:, farthest]) > 5
    for i in range(3):
        assert len(np.unique(clip.frames[clip.masks[:, i] > 1 - 1e-9], axis=0)) == 1


def test_what_is_captioned_is_one_motion_and_an_autoencoder_sees_crowds_too() -> None:
    world = Motions()
    for row in range(20):
        clip, captions = world.pair(np.random.default_rng(row), 0.0)
        rng = np.random.default_rng(row)
        asked = sample_motion(rng)
        assert captions == [caption(asked)] and np.array_equal(clip, render(asked, rng).frames)
    alone = [world.pair(np.random.default_rng(row))[0] for row in range(20)]
    paired = [world.pair(np.random.default_rng(row), 0.0)[0] for row in range(20)]
    assert 4 <= sum(not np.array_equal(a, b) for a, b in zip(alone, paired, strict=True))


def test_flow_warps_a_frame_to_the_next() -> None:
    clip = drawn("a red circle moves right quickly")
    ys, xs = np.nonzero(clip.masks[3, 0] == 1)
    moved = np.stack([xs, ys], 1) + clip.flow[3][:, ys, xs].T
    there = clip.masks[4, 0][np.round(moved[:, 1]).astype(int), np.round(moved[:, 0]).astype(int)]
    assert len(xs) > 30 and (there > 0.5).mean() > 0.97


def test_the_tracker_finds_things_to_a_fraction_of_a_pixel() -> None:
    for wanted, clip in renders(40):
        seen = {each.colour: each for each in track(clip.frames)}
        for i, thing in enumerate(wanted.things):
            assert seen[thing.colour].shape == thing.shape
            whole = seen[thing.colour].whole
            error = np.abs(seen[thing.colour].centres - clip.positions[:, i])[whole]
            assert np.median(error) < 0.1 and error.max() < 0.6


def test_renders_are_accepted_and_other_captions_are_not() -> None:
    accepted = [check(clip.frames, wanted).correct for wanted, clip in renders()]
    assert np.mean(accepted) >= 0.99
    rng = np.random.default_rng(1)
    changed = [
        check(clip.frames, corrupt(wanted, rng, clause)).correct
        for wanted, clip in renders(60)
        for clause in clauses(wanted)
    ]
    assert len(changed) > 150 and np.mean(changed) <= 0.02


@functools.cache
def benchmark() -> dict[str, Callable[[Frames, np.random.Generator], Frames]]:
    path = Path(__file__).parents[2] / "benchmarks" / "motion.py"
    spec = importlib.util.spec_from_file_location("motion_benchmark", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return dict(module.CHANGES)


@pytest.mark.parametrize("name", ["JPEG quality 80", "1-pixel shift", "noise std 4/255"])
def test_harmless_changes_are_survived(name: str) -> None:
    rng = np.random.default_rng(2)
    accepted = [check(benchmark()[name](clip.frames, rng), wanted).correct for wanted, clip in renders(80)]
    assert np.mean(accepted) >= 0.95


def test_each_wrong_clause_is_named() -> None:
    clip = drawn("a red circle moves right quickly").frames
    expected = {
        "a red circle moves right quickly": "",
        "a red circle moves right": "",
        "a red circle moves left": "direction",
        "a red circle moves right slowly": "speed",
        "a blue circle moves right": "identity",
        "a red star moves right": "identity",
        "a red circle stays still": "speed",
        "a red circle bounces": "bounce",
    }
    for text, wrong in expected.items():
        verdict = check(clip, parse(text))
        assert [name for name in ("identity", "count", "direction", "speed", "bounce") if not vars(verdict)[name]] == (
            [wrong] if wrong else []
        ), text
        assert verdict.correct == (not wrong)
    behind = drawn("a red circle passes behind a blue square").frames
    verdict = check(behind, parse("a red circle passes in front of a blue square"))
    assert not verdict.order and verdict.identity and verdict.direction


def odd(name: str) -> Frames:
    """Return a clip of a red star that moves right, with something wrong about it in time."""
    frames, other = drawn("a red star moves right quickly").frames, drawn("a green star moves right quickly").frames
    ground = np.full_like(frames[0], 242)
    match name:
        case "freezes":
            return np.repeat(frames[6:7], FRAMES, axis=0)
        case "is reversed":
            return frames[::-1].copy()
        case "is shuffled":
            return frames[[3, 0, 9, 5, 1, 12, 7, 2, 11, 4, 10, 6, 8]]
        case "vanishes":
            return np.concatenate([frames[:9], np.repeat(ground[None], 4, axis=0)])
        case "blinks":
            return np.stack([ground if i == 6 else frame for i, frame in enumerate(frames)])
        case "changes colour":
            return np.concatenate([frames[:7], other[7:]])
        case "jumps":
            return np.concatenate([frames[:7], np.roll(frames[7:], 9, axis=1)])
        case "is doubled":
            return np.minimum(frames, np.roll(frames, 15, axis=1))
        case "flickers":
            return np.stack([(frame * (0.8 if i % 2 else 1.0)).astype(np.uint8) for i, frame in enumerate(frames)])
        case "cross-fades":
            shares = np.linspace(0, 1, FRAMES)[:, None, None, None]
            return np.round((1 - shares) * frames[0] + shares * frames[-1]).astype(np.uint8)
    return np.zeros_like(frames)


@pytest.mark.parametrize(
    "name",
    [
        "freezes", "is reversed", "is shuffled", "vanishes", "blinks", "changes colour", "jumps", "is doubled",
        "flickers", "cross-fades", "is black",
    ],
)  # fmt: skip
def test_what_is_wrong_in_time_is_seen(name: str) -> None:
    wanted = parse("a red star moves right quickly")
    assert check(drawn("a red star moves right quickly").frames, wanted).correct
    assert not check(odd(name), wanted).correct


def test_the_rewards_are_the_checker() -> None:
    some = renders(12)
    media = Videos(torch.from_numpy(np.stack([clip.frames for _, clip in some])).permute(0, 1, 4, 2, 3), fps=8)
    asked = [Prompt(caption(wanted)) for wanted, _ in some[1:] + some[:1]]
    output = motion(media, asked)
    verdicts = [check(clip.frames, parse(prompt.text)) for (_, clip), prompt in zip(some, asked, strict=True)]
    assert output.score.tolist() == [float(v.correct) for v in verdicts]  # type: ignore[union-attr]
    assert motion_fraction(media, asked).score.tolist() == pytest.approx([v.fraction for v in verdicts])  # type: ignore[union-attr]
    with pytest.raises(UserError, match="13 frames of 32 x 32 pixels, got 1 frames"):
        motion(Images(torch.rand(1, 3, 32, 32)), [Prompt("a red star falls")])
