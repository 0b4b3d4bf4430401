"""A pipeline so small that a whole run takes a second, a user's rewards and prompts, and a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import limner
from limner.algorithms.diffusion_nft import DiffusionNFT
from limner.algorithms.flow_grpo import FlowGRPO
from limner.core.quiet import no_bars
from limner.core.types import Tree, Vocabulary
from limner.diffusion.dynamics import EulerODE, FlowSDE
from limner.engine import checkpoint
from limner.models.sd3.build import SD3Size, build
from limner.policies.denoising import Sampler
from limner.training.config import Evaluation, Lora, Optimizer, RunConfig

WORDS = tuple("a one two red green blue star stars circle circles".split())
PROMPTS = "two red stars\na blue circle\n\n# a comment\none green star\n"
REWARDS = '''
import torch

seen = []


def redness(media, prompts):
    """How much redder the left half is than the right one, in whole levels."""
    red = media.frames()[:, 0, 0]
    left, right = red.chunk(2, dim=2)
    return (1000 * (left.mean((1, 2)) - right.mean((1, 2)))).round()


def never(media, prompts):
    return torch.full((len(prompts),), torch.nan)


def sometimes(media, prompts):
    """No answer for every third picture, and otherwise a number far from zero."""
    scores = 10_000 + redness(media, prompts)
    scores[::3] = torch.nan
    return scores


def pairs(media, prompts):
    return torch.zeros(len(prompts), 2)


def wanted(media, prompts):
    """What the prompt file says; a KeyError where it does not."""
    return [float(prompt.meta["wanted"]["count"]) + i % 2 for i, prompt in enumerate(prompts)]


def seeing_only_red(media, prompts):
    return [float("red" in prompt.text) for prompt in prompts]
'''


@dataclass(frozen=True)
class Miniature:
    """Where the pipeline and the user's files are."""

    folder: Path

    @property
    def model(self) -> Path:
        return self.folder / "pipeline"

    @property
    def prompts(self) -> Path:
        return self.folder / "prompts.txt"

    def reward(self, name: str) -> str:
        """Return what a recipe calls the function `name` of the reward file."""
        return f"{self.folder / 'rewards.py'}:{name}"

    def config(self, out: Path, reward: str = "redness", **changes: Any) -> RunConfig:
        """Return a run of three iterations by DiffusionNFT; `changes` replace fields of it."""
        base = limner.recipe("scenes")
        config = replace(
            base,
            name="miniature",
            model=replace(base.model, path=str(self.model), train=Lora(rank=4, alpha=12)),
            prompts=str(self.prompts),
            reward=self.reward(reward),
            algorithm=DiffusionNFT(num_times=2, decay_rate=0.2),
            sampler=Sampler(EulerODE(), steps=4),
            optimizer=Optimizer(lr=1e-2),
            evaluation=Evaluation(seeds=2),
            steps=3,
            prompts_per_step=2,
            group_size=4,
            micro_batch=8,
            checkpoint_every=1,
            device="cpu",
            out=str(out),
        )
        return replace(config, **changes)


FLOW_GRPO: Mapping[str, Any] = {"algorithm": FlowGRPO(kl_weight=0.01), "sampler": Sampler(FlowSDE(), steps=4)}
"""The changes that make the run one by Flow-GRPO."""


def make_miniature(folder: Path) -> Miniature:
    """Write the pipeline with random weights, as the shipped ones are stored, and the user's files."""
    pipeline = build(
        SD3Size(
            Vocabulary(WORDS),
            layers=2,
            heads=1,
            latent_size=4,
            latent_channels=4,
            autoencoder_channels=(8, 8, 8, 8),
            text_width=32,
            text_layers=1,
            shift=1.0,
        )
    )
    pipeline.transformer.half()
    pipeline.vae.half()
    made = Miniature(folder)
    with no_bars():
        pipeline.save_pretrained(made.model)
    made.prompts.write_text(PROMPTS)
    (folder / "rewards.py").write_text(REWARDS)
    return made


def last_checkpoint(run: Path) -> dict[str, Any]:
    """Return what the last checkpoint of a run folder keeps."""
    path = checkpoint.latest(run / "checkpoints")
    assert path is not None
    return checkpoint.load(path)


def differences(one: Tree, two: Tree, place: str = "") -> list[str]:
    """Return the places where two checkpoints differ by a single bit; seconds are not compared."""
    if place.endswith(("/seconds", "/processor_seconds")):
        return []
    if isinstance(one, Mapping) and isinstance(two, Mapping) and one.keys() == two.keys():
        return [found for key in one for found in differences(one[key], two[key], f"{place}/{key}")]
    if isinstance(one, list | tuple) and isinstance(two, list | tuple) and len(one) == len(two):
        pairs = enumerate(zip(one, two, strict=True))
        return [found for i, (a, b) in pairs for found in differences(a, b, f"{place}/{i}")]
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        return [] if one.dtype == two.dtype and torch.equal(one, two) else [place]
    return [] if type(one) is type(two) and one == two else [place]
