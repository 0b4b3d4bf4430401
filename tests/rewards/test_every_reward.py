"""What holds for every reward: its answer is per sample, repeatable, within its spec, and falls as pictures get worse.

A reward that is registered needs a case here: how to make a small one, good pictures with their prompts, and a ladder
of degradations (or why there is none). A case with weights is a miniature with random ones.
"""

from __future__ import annotations

import functools
import itertools
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

import tiny_videoalign
import tiny_vision
from limner.core.media import Images, Media, Videos
from limner.core.protocols import Reward, Specified
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.judging.spec import MAP_SIDE
from limner.registry.find import find
from limner.registry.names import REWARDS
from limner.rewards.brisque.reward import Brisque
from limner.rewards.colourfulness import colourfulness
from limner.rewards.contrast import contrast
from limner.rewards.sharpness import sharpness
from limner.rewards.symmetry import Symmetry
from limner.rewards.video.bounce import video_bounce
from limner.rewards.video.features import VideoSubject
from limner.rewards.video.motion import VideoDynamics, VideoWarp
from limner.rewards.video.reference import video_reference
from limner.rewards.video.steadiness import video_flicker, video_smoothness
from limner.rewards.video.subject import video_consistency, video_track
from limner.rewards.video.surprise import VideoSurprise
from limner.rewards.videoalign.reward import VideoAlign
from limner.rewards.vision.clip_score import ClipScore
from limner.rewards.vision.dino_similarity import DinoSimilarity
from limner.rewards.vision.geneval_hf import GenEvalHF
from limner.rewards.vision.hpsv2 import HPSv2
from limner.rewards.vision.image_reward import ImageReward
from limner.rewards.vision.laion_aesthetic import LaionAesthetic
from limner.rewards.vision.pickscore import PickScore
from limner.rewards.vision.vqa_score import VqaScore
from limner.worlds.emoji import grammar as emoji
from limner.worlds.motion import parse as read_motion
from limner.worlds.motion import render as draw_clip
from limner.worlds.oracle.model import Points
from limner.worlds.oracle.tokens import Sequences
from limner.worlds.scenes import parse
from limner.worlds.scenes.render import render

BATCH = 3
TEXTS = ["a red cat", "a blue dog left of a cat", "a green dog"]

Ladder = Callable[[Tensor, float], Tensor]
"""Makes a picture (or point) worse; 0 leaves it as it is."""


@dataclass(frozen=True)
class Case:
    """How to test one reward. `why` says why there is no ladder."""

    make: Callable[[], Reward]
    good: Callable[[], tuple[Tensor, list[Prompt]]]
    ladder: Ladder | None = None
    steps: Sequence[float] = (0.0, 0.25, 0.5, 1.0)
    why: str = ""
    media: Callable[[Tensor], Media] = Images


def photographs() -> tuple[Tensor, list[Prompt]]:
    """Return pictures with edges, colours and texture, in whole numbers of 255."""
    y, x = torch.meshgrid(*[torch.arange(48.0)] * 2, indexing="ij")
    pictures = []
    for seed in range(BATCH):
        waves = [0.5 + 0.3 * torch.sin(x / (3 + seed + c)) * torch.cos(y / (4 + c)) for c in range(3)]
        edges = 0.2 * ((x > 14 + seed) & (y > 20)).float()
        noise = torch.randn(3, 48, 48, generator=torch.Generator().manual_seed(seed)) * 0.01
        pictures.append(torch.stack(waves) - 0.1 + edges + noise)
    return (torch.stack(pictures).clamp(0, 1) * 255).round() / 255, [Prompt(text) for text in TEXTS]


def flags() -> tuple[Tensor, list[Prompt]]:
    """Return pictures that are as their layout wants them, slightly impure."""
    pictures = torch.full((BATCH, 3, 16, 16), 0.05)
    pictures[:, 0, :, :8] = pictures[:, 2, :, 8:] = 0.95
    wanted = [{"colour": "red", "region": "left"}, {"colour": "blue", "region": "right"}]
    return pictures, [Prompt(text, {"layout": wanted}) for text in TEXTS]


def drawn() -> tuple[Tensor, list[Prompt]]:
    texts = ["three green triangles", "a red circle left of a blue square", "a yellow star"]
    pictures = [render(parse(text), np.random.default_rng(i)) for i, text in enumerate(texts)]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255, [Prompt(text) for text in texts]


def moving() -> tuple[Tensor, list[Prompt]]:
    texts = ["a red star moves left", "a blue circle falls", "a green square passes behind a yellow circle"]
    clips = [draw_clip(read_motion(text), np.random.default_rng(i)).frames for i, text in enumerate(texts)]
    return torch.from_numpy(np.stack(clips)).permute(0, 1, 4, 2, 3) / 255, [Prompt(text) for text in texts]


def clip(frames: Tensor) -> Videos:
    return Videos(frames, fps=8)


def named() -> tuple[Tensor, list[Prompt]]:
    """Return emoji of training with their captions."""
    rows = [rows[0] for rows in emoji.families("a")[:BATCH]]
    shown = torch.from_numpy(emoji.pictures()[rows]).permute(0, 3, 1, 2) / 255
    return shown, [emoji.to_prompt(emoji.emojis()[row]) for row in rows]


def points() -> tuple[Tensor, list[Prompt]]:
    return torch.tensor([[2.1, -2.1], [2.0, -2.0], [1.9, -1.8]]), [Prompt("")] * BATCH


def written() -> tuple[Tensor, list[Prompt]]:
    return torch.tensor([[0.0, 1, 2, 3], [3.0, 3, 0, 1], [2.0, 2, 2, 0]]), [Prompt("")] * BATCH


def as_tokens(tokens: Tensor) -> Sequences:
    return Sequences(tokens.long())


def mirrored() -> tuple[Tensor, list[Prompt]]:
    pictures, prompts = photographs()
    return torch.cat([pictures[..., :24], pictures[..., :24].flip(-1)], -1), prompts


def referring(shown: Callable[[], tuple[Tensor, list[Prompt]]]) -> tuple[Tensor, list[Prompt]]:
    """Return media that are what their prompts refer to."""
    media, prompts = shown()
    return media, [Prompt(p.text, {"reference": each}) for p, each in zip(prompts, media, strict=True)]


def with_things() -> tuple[Tensor, list[Prompt]]:
    things = [{"class": "cat", "count": 1, "color": "red"}]
    return photographs()[0], [Prompt(text, {"include": things, "tag": "colors"}) for text in TEXTS]


def blurred(pictures: Tensor, strength: float) -> Tensor:
    width = 2 * round(3 * strength) + 1
    return avg_pool2d(pad(pictures, (width // 2,) * 4, "reflect"), width, 1)


def faded(pictures: Tensor, strength: float) -> Tensor:
    """Move every pixel towards the picture's mean."""
    return pictures + strength * (pictures.mean((1, 2, 3), keepdim=True) - pictures)


def desaturated(pictures: Tensor, strength: float) -> Tensor:
    return pictures + strength * (pictures.mean(1, keepdim=True) - pictures)


def shifted(pictures: Tensor, strength: float) -> Tensor:
    return pictures.roll(round(6 * strength), -1)


def noisy(pictures: Tensor, strength: float) -> Tensor:
    noise = torch.randn(pictures.shape[1:], generator=torch.Generator().manual_seed(9))
    return (pictures + 0.4 * strength * noise).clamp(0, 1)


def greyed(pictures: Tensor, strength: float) -> Tensor:
    return pictures + strength * (0.5 - pictures)


def painted_over(pictures: Tensor, strength: float) -> Tensor:
    """Cover the picture from the top with its own corner's colour."""
    rows = round(strength * pictures.shape[2])
    covered = pictures.clone()
    covered[:, :, :rows] = pictures[:, :, :1, :1]
    return covered


def painted_clip(frames: Tensor, strength: float) -> Tensor:
    return painted_over(frames.flatten(0, 1), strength).unflatten(0, frames.shape[:2])


def flickering(frames: Tensor, strength: float) -> Tensor:
    """Darken every other frame."""
    return frames * (1 - 0.4 * strength * (torch.arange(frames.shape[1]) % 2)[:, None, None, None])


def away(position: Tensor, strength: float) -> Tensor:
    """Move a point from where every oracle is good to where it is bad."""
    return position - 4 * strength * torch.tensor([1.0, 0.0])


@functools.cache
def folder() -> Path:
    """Return a folder with all miniatures."""
    root = Path(tempfile.mkdtemp(prefix="limner-rewards-"))
    for make in (tiny_vision.clip, tiny_vision.dino, tiny_vision.llava, tiny_vision.vjepa2, tiny_vision.learned):
        make(root / make.__name__)
    tiny_vision.aesthetic_head(root / "head.pth")
    config = tiny_vision.clip_config("gelu")
    config.save_pretrained(root / "hps")
    tiny_vision.tokenizer(root / "hps")
    torch.save({"state_dict": tiny_vision.open_clip_state(config)}, root / "hps.pt")
    tiny_vision.blip_config(root / "blip")
    torch.save(tiny_vision.image_reward_state(), root / "blip.pt")
    tiny_vision.mask2former(root / "mask2former", {0: "cat", 1: "dog"})
    tiny_vision.svm(root)
    tiny_videoalign.publish(root)
    return root


def at(name: str) -> str:
    return str(folder() / name)


SPOILT = "how clips that are spoilt change it stands in tests/rewards/test_video.py"
RANDOM = "random weights know nothing of quality"
CASES = {
    "scenes": Case(lambda: find(REWARDS, "reward", "scenes"), drawn, painted_over),
    "scenes_fraction": Case(lambda: find(REWARDS, "reward", "scenes_fraction"), drawn, painted_over),
    "motion": Case(lambda: find(REWARDS, "reward", "motion"), moving, painted_clip, media=clip),
    "motion_fraction": Case(lambda: find(REWARDS, "reward", "motion_fraction"), moving, painted_clip, media=clip),
    "emoji": Case(lambda: find(REWARDS, "reward", "emoji")(), named, noisy, steps=(0.0, 0.5, 1.0)),
    "emoji_second": Case(lambda: find(REWARDS, "reward", "emoji_second")(), named, why="its score is 0 or 1"),
    "o1": Case(lambda: find(REWARDS, "reward", "o1"), points, away, media=Points),
    "o2": Case(lambda: find(REWARDS, "reward", "o2"), points, away, media=Points),
    "o3": Case(lambda: find(REWARDS, "reward", "o3"), points, away, media=Points),
    "o4": Case(lambda: find(REWARDS, "reward", "o4"), written, why="a table knows no order", media=as_tokens),
    "video_flicker": Case(lambda: video_flicker, moving, flickering, media=clip),
    "video_smoothness": Case(lambda: video_smoothness, moving, flickering, media=clip),
    "video_warp": Case(VideoWarp, moving, flickering, media=clip),
    "video_dynamics": Case(VideoDynamics, moving, why=SPOILT, media=clip),
    "video_consistency": Case(lambda: video_consistency, moving, why=SPOILT, media=clip),
    "video_track": Case(lambda: video_track, moving, why=SPOILT, media=clip),
    "video_subject": Case(VideoSubject, moving, why=SPOILT, media=clip),
    "video_surprise": Case(lambda: VideoSurprise(at("vjepa2")), moving, why=RANDOM, media=clip),
    "video_bounce": Case(lambda: video_bounce, moving, why="tests/rewards/test_video_physics.py", media=clip),
    "video_reference": Case(lambda: video_reference, lambda: referring(moving), flickering, media=clip),
    "videoalign": Case(lambda: VideoAlign(at("VideoReward")), moving, why=RANDOM, media=clip),
    "jpeg_size": Case(lambda: find(REWARDS, "reward", "jpeg_size"), photographs, blurred),
    "jpeg_compressibility": Case(lambda: find(REWARDS, "reward", "jpeg_compressibility"), photographs, noisy),
    "sharpness": Case(lambda: sharpness, photographs, blurred),
    "contrast": Case(lambda: contrast, photographs, faded),
    "colourfulness": Case(lambda: colourfulness, photographs, desaturated),
    "symmetry": Case(Symmetry, mirrored, shifted),
    "layout": Case(lambda: find(REWARDS, "reward", "layout"), flags, greyed),
    "brisque": Case(lambda: Brisque(at("model"), at("ranges")), photographs, why=RANDOM),
    "clip_score": Case(lambda: ClipScore(at("clip")), photographs, why=RANDOM),
    "pickscore": Case(lambda: PickScore(at("clip"), at("clip")), photographs, why=RANDOM),
    "laion_aesthetic": Case(lambda: LaionAesthetic(at("head.pth"), at("clip")), photographs, why=RANDOM),
    "hpsv2": Case(lambda: HPSv2(at("hps.pt"), at("hps")), photographs, why=RANDOM),
    "image_reward": Case(lambda: ImageReward(at("blip.pt"), at("blip")), photographs, why=RANDOM),
    "dino_similarity": Case(
        lambda: DinoSimilarity(model=at("dino"), resize=20, crop=16),
        lambda: referring(photographs),
        noisy,
        steps=(0.0, 0.1, 0.3, 1.0),
    ),
    "vqa_score": Case(lambda: VqaScore(at("llava"), question="Does this show {}"), photographs, why=RANDOM),
    "learned": Case(lambda: find(REWARDS, "reward", "learned")(at("learned")), photographs, why=RANDOM),
    "geneval_hf": Case(
        lambda: GenEvalHF(model=at("mask2former"), colours=at("clip"), resize=64), with_things, why=RANDOM
    ),
}
ELSEWHERE = {
    "ocr": "rewards/test_ocr.py",
    "remote": "rewards/test_remote.py",
    "vlm_yes_no": "rewards/vlm/test_judges.py",
    "vlm_rubric": "rewards/vlm/test_judges.py",
    "vlm_checklist": "rewards/vlm/test_judges.py",
    "vlm_pairwise": "rewards/vlm/test_judges.py",
    "annotator": "worlds/test_annotator.py",
}
"""A registered reward that cannot be tried here, and the file whose tests hold the same for it."""


def judged(reward: Reward, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
    answer = reward(media, prompts)
    valid = torch.ones(len(prompts), dtype=torch.bool)
    return answer if isinstance(answer, RewardOutput) else RewardOutput(answer, valid)


def spec_of(reward: Reward) -> RewardSpec:
    assert isinstance(reward, Specified)
    return reward.spec


def same(a: RewardOutput, b: RewardOutput) -> None:
    torch.testing.assert_close(a.score, b.score, rtol=1e-4, atol=1e-5, equal_nan=True)
    assert torch.equal(a.valid, b.valid)
    for mine, other in ((a.components, b.components), (a.maps, b.maps)):
        assert mine.keys() == other.keys()
        for name, values in mine.items():
            torch.testing.assert_close(values, other[name], rtol=1e-4, atol=1e-5, equal_nan=True)


def test_every_registered_reward_has_a_case() -> None:
    missing = REWARDS.keys() - CASES.keys() - ELSEWHERE.keys()
    assert not missing, f"add a case to CASES, or name the file to ELSEWHERE: {sorted(missing)}"
    assert all((Path(__file__).parents[1] / file).is_file() for file in ELSEWHERE.values())


@pytest.mark.parametrize("name", CASES)
def test_the_spec_says_what_it_is(name: str) -> None:
    spec = spec_of(CASES[name].make())
    assert spec.name == name and spec.about and spec.source and spec.version and spec.low < spec.high
    assert spec.about[0].islower() or spec.about[0].isdigit()  # it continues "name: "
    assert not spec.about.endswith(".") and len(spec.about) < 120


@pytest.mark.parametrize("name", CASES)
def test_the_answer_is_of_each_sample_alone(name: str) -> None:
    """One by one, in another order and twice, it is the same; and what was judged is left as it was."""
    case = CASES[name]
    reward, (pictures, prompts) = case.make(), case.good()
    before = pictures.clone()
    together = judged(reward, case.media(pictures), prompts)
    assert together.score.shape == (BATCH,) and together.score.is_floating_point()
    assert torch.equal(pictures, before)
    same(judged(reward, case.media(pictures), prompts), together)
    order = torch.tensor([2, 0, 1])
    turned = judged(reward, case.media(pictures[order]), [prompts[i] for i in order])
    same(turned, picked(together, order))
    for i in range(BATCH):
        same(judged(reward, case.media(pictures[i : i + 1]), prompts[i : i + 1]), picked(together, torch.tensor([i])))


def picked(output: RewardOutput, rows: Tensor) -> RewardOutput:
    parts = {name: values[rows] for name, values in output.components.items()}
    maps = {name: values[rows] for name, values in output.maps.items()}
    return RewardOutput(output.score[rows], output.valid[rows], parts, maps=maps)


@pytest.mark.parametrize("name", CASES)
def test_scores_and_components_are_in_their_ranges(name: str) -> None:
    """On good pictures, and on black, white and noisy ones; what is not finite is invalid."""
    case = CASES[name]
    reward, (good, prompts) = case.make(), case.good()
    spec = spec_of(reward)
    noise = torch.rand(good.shape, generator=torch.Generator().manual_seed(0))
    odd = [torch.zeros_like(good), torch.ones_like(good), noise]
    assert judged(reward, case.media(good), prompts).valid.all()
    for pictures in [good, *odd]:
        output = judged(reward, case.media(pictures), prompts)
        score = output.score[output.valid]
        assert output.score.isfinite().equal(output.valid)
        assert ((score >= spec.low - 1e-5) & (score <= spec.high + 1e-5)).all()
        assert output.components.keys() == spec.components.keys() and output.maps.keys() == spec.maps.keys()
        assert all(max(found.shape[1:]) <= MAP_SIDE and not found.requires_grad for found in output.maps.values())
        for part, values in output.components.items():
            stated = re.match(r"(-?[\d.]+) (?:to|or) (-?[\d.]+)", spec.components[part])
            assert stated, f"{part}: say its range first, as in '0 to 1: ...'"
            low, high = float(stated[1]), float(stated[2])
            assert ((values[output.valid] >= low - 1e-5) & (values[output.valid] <= high + 1e-5)).all()


@pytest.mark.parametrize("name", CASES)
def test_it_falls_as_pictures_get_worse(name: str) -> None:
    case = CASES[name]
    if case.ladder is None:
        pytest.skip(case.why)
    reward, (pictures, prompts) = case.make(), case.good()
    assert torch.equal(case.ladder(pictures, 0.0), pictures)
    ladder = [judged(reward, case.media(case.ladder(pictures, s)), prompts).score.mean().item() for s in case.steps]
    assert all(later <= earlier for earlier, later in itertools.pairwise(ladder)), ladder
    assert ladder[-1] < ladder[0]


@pytest.mark.parametrize("name", CASES)
def test_a_step_along_the_gradient_raises_the_score(name: str) -> None:
    """Where the spec promises a gradient it reaches every sample; where it does not there is none."""
    case = CASES[name]
    reward, (good, prompts) = case.make(), case.good()
    middle = good if case.media is Points else good * 0.8 + 0.1
    pictures = (middle + 0.02 * torch.randn(good.shape, generator=torch.Generator().manual_seed(1))).requires_grad_()
    score = judged(reward, case.media(pictures), prompts).score
    assert score.requires_grad == spec_of(reward).differentiable
    if not score.requires_grad:
        return
    (gradient,) = torch.autograd.grad(score.sum(), pictures)
    lengths = gradient.flatten(1).norm(dim=1)
    assert gradient.isfinite().all() and (lengths > 0).all()
    step = 1e-3 * gradient / lengths.reshape(-1, *[1] * (gradient.ndim - 1))
    with torch.no_grad():
        raised = judged(reward, case.media(pictures + step), prompts).score
    assert (raised > score).all()


def test_the_docs_name_every_reward() -> None:
    text = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text(encoding="utf-8")
    of_other_pages = {"o1", "o2", "o3", "o4", "scenes_fraction", "motion_fraction"}
    assert [
        name for name in REWARDS if f"`{name}`" not in text and f"`{name}(" not in text and name not in of_other_pages
    ] == []
