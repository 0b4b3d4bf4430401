"""What a run is: every choice in one immutable object, written to `config.yaml` and read back from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from limner.algorithms.diffusion_nft import DiffusionNFT
from limner.algorithms.flow_grpo import FlowGRPO
from limner.diffusion.dynamics import CPS, DDIM, DanceSDE, EulerODE, FlowSDE


@dataclass(frozen=True)
class Lora:
    """Train low-rank updates of the linear layers whose names end in `targets` (empty: the model's default ones)."""

    rank: int = 32
    alpha: int = 64
    targets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Full:
    """Train all weights; reference and old policy are copies."""


@dataclass(frozen=True)
class Model:
    """Which generator: an adapter's name, and a folder in its library's own layout (or the name of a built-in base)."""

    kind: str = "sd3"
    path: str = "scenes"
    max_sequence_length: int | None = None
    """Length of the T5 part of the text; None: diffusers' default (256)."""
    train: Lora | Full = field(default_factory=Lora)


@dataclass(frozen=True)
class Sampler:
    """How samples are drawn while training.

    `window` > 0 makes that many decisions in a row stochastic, from a start drawn for each group between
    `window_range`; 0 makes all but the last one so.
    """

    dynamics: FlowSDE | DanceSDE | CPS | DDIM | EulerODE = field(default_factory=FlowSDE)
    steps: int = 10
    window: int = 0
    window_range: tuple[int, int] = (0, 0)
    guidance: float = 1.0


@dataclass(frozen=True)
class Optimizer:
    """AdamW with linear warm-up, then a constant or a cosine."""

    lr: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    warmup: int = 0
    schedule: Literal["constant", "cosine"] = "constant"
    max_grad_norm: float = 1.0
    ema: float = 0.0
    """Decay of the average of the weights that is evaluated and exported; 0: none."""


@dataclass(frozen=True)
class Precision:
    """Networks run in `dtype`; log-probabilities, losses and kept latents are float32 whatever it is."""

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    activation_checkpointing: bool = False


@dataclass(frozen=True)
class RewardTerm:
    """One column of the reward: a built-in name or `file.py:function`, and its weight in the total."""

    name: str
    weight: float = 1.0


@dataclass(frozen=True)
class Evaluation:
    """How the result is measured: prompts x seeds, never trained on, by `reward` (empty: the training reward)."""

    prompts: str = ""
    reward: str = ""
    seeds: int = 4
    every: int = 0
    """Evaluate on a part of the prompts every so many iterations, for the curve; 0: only before and after."""


@dataclass(frozen=True)
class RunConfig:
    """A run: a generator, prompts, something that says which results are better, and how to learn from it."""

    name: str
    model: Model = field(default_factory=Model)
    prompts: str = ""
    rewards: tuple[RewardTerm, ...] = ()
    algorithm: FlowGRPO | DiffusionNFT = field(default_factory=FlowGRPO)
    sampler: Sampler = field(default_factory=Sampler)
    optimizer: Optimizer = field(default_factory=Optimizer)
    precision: Precision = field(default_factory=Precision)
    evaluation: Evaluation = field(default_factory=Evaluation)
    steps: int = 100
    """Iterations: roll out, score, update."""
    prompts_per_step: int = 8
    group_size: int = 16
    micro_batch: int = 128
    """Network evaluations in one pass."""
    checkpoint_every: int = 25
    ratio_floor: Literal["refuse", "warn"] = "refuse"
    seed: int = 0
    device: str = "auto"
    out: str = ""
    """The run folder; empty: runs/NAME-SEED."""
