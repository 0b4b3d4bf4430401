"""The nouns: what flows through a run, from a prompt to a loss.

Axis legend: ``batch`` = prompts x group on this rank; ``steps`` = decisions; ``*latent`` = any rank (image ``c h w``,
video ``c t h w``, voxel ``c d h w``, tokens none); ``prompts`` = unique prompts; ``frames`` = rendered 2-D frames.

Types change as knowledge grows: ``Prompt -> Rollout -> Scored -> Batch -> LossOutput``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from limner.core.edition import Edition
from limner.core.paths import SUFFIXES, path_of
from limner.core.transfer import sent

Tree = Any
"""A tensor, or a (nested) dict, tuple, list or dataclass of tensors; see `limner.core.tree`."""

Condition = Tree
"""Encoded prompts: a tree whose leading axis is the unique prompts, the empty (negative) prompt once and last."""

OVERALL = "overall"
"""What tables call all prompts together, beside their categories."""


@dataclass(frozen=True)
class Prompt:
    """What is asked for: a text, and what a verifiable reward needs to know about it (`meta`, JSON-serialisable).

    `inputs` are files that the generator is given beside the text, by the name that the pipeline has for each:
    {"image": "first.png"} is a clip's first frame, or the picture to edit.
    """

    text: str
    meta: Mapping[str, Any] = field(default_factory=dict, hash=False)
    inputs: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def asked(self) -> Prompt:
        """All that a generator is told, and encodes: everything but `meta`, which is for judges."""
        return replace(self, meta={})

    @property
    def reference(self) -> Path | None:
        """The file that judges compare with: `meta["reference"]`, where it ends as pictures and clips do."""
        named = self.meta.get("reference")
        told = isinstance(named, str) and named.lower().endswith(SUFFIXES)
        return path_of(str(named), "reference") if told else None

    @property
    def category(self) -> str | None:
        """What kind of prompt it is, for tables: `meta["category"]`; None if it does not say.

        Another value than a text is written as JSON, and so is "overall", which tables call all prompts together, and
        what cannot be printed.
        """
        named = self.meta.get("category")
        if named is None or (isinstance(named, str) and named != OVERALL and named.isprintable()):
            return named
        written = json.dumps(named, ensure_ascii=False)
        return written if written.isprintable() else json.dumps(named)


@dataclass(frozen=True)
class Vocabulary:
    """What a tokenizer made for a world knows: `words` are one token each, wherever their letters stand together.

    Those of `alone` are one token only between spaces: the letters of other words, which are spelt, stay apart.
    `max_length` tokens, begin and end included, hold any caption.
    """

    words: tuple[str, ...]
    alone: tuple[str, ...] = ()
    max_length: int = 14


@runtime_checkable
class Pipeline(Protocol):
    """A pipeline of its library, in memory."""

    @property
    def components(self) -> dict[str, Any]:
        """Its networks, tokenizers and scheduler, by name."""
        ...


Source: TypeAlias = str | Path | Edition | Pipeline
"""Where a model comes from."""


class States(Protocol):
    """What a policy keeps of the states that decisions were made in, and of what was chosen in them, each tensor once.

    A tree with leading axis batch, its own affair: often a choice is a part of the next state.
    """

    @property
    def choices(self) -> Shaped[Tensor, "batch steps *choice"]:
        """What was chosen in each."""
        ...

    def features(self) -> Sequence[Float[Tensor, "batch steps *numbers"]]:
        """Return what a critic sees of the state of each decision: parts of any shape."""
        ...


@dataclass(frozen=True)
class Trajectory:
    """The decisions of a rollout that an algorithm may take credit for.

    `states` is what the policy scores them again by. `length` is how long a decision takes on the policy's own clock:
    t - s for a step of denoising, 1 for a token. `old` is what a ratio needs later, exactly as the sampler recorded it:
    the mean and std of a Gaussian, the logits of tokens; never a view of weights, which change. `mask` marks the
    decisions that count. `node` is the id of the first sample that took a decision: its own, but for a prefix that
    branches share, which is counted once, under that first sample.
    """

    states: States
    length: Float[Tensor, "batch steps"]
    old: Tree
    mask: Bool[Tensor, "batch steps"]
    node: Int[Tensor, "batch steps"]

    @property
    def choices(self) -> Shaped[Tensor, "batch steps *choice"]:
        """What was decided, as the states have it."""
        return self.states.choices


@dataclass(frozen=True)
class Rollout:
    """Samples that were drawn and not yet judged.

    Every tensor has leading axis ``batch`` except `condition`, whose leading axis is the unique prompts and which is
    read through `prompt_index`. `group` names the samples that are compared with one another (never prompt text:
    equal prompts stay separate groups). `id` identifies a sample for randomness, caches, resume and reports,
    `version` the optimizer step of the weights that drew it. An algorithm that needs no path gets `trajectory` None.
    """

    prompts: Sequence[Prompt]
    group: Int[Tensor, " batch"]
    prompt_index: Int[Tensor, " batch"]
    condition: Condition
    sample: Shaped[Tensor, "batch *latent"]
    trajectory: Trajectory | None
    id: Int[Tensor, " batch"]
    version: int
    region: Float[Tensor, "batch *where"] | None = None
    """Where a given sample counts, with mean 1 over its elements; None: everywhere alike.

    Of a pair whose segments were judged by themselves it is their labels, below 0 where the worse sample is the better
    one (`Needs.segments`). An axis of length 1 is alike along it.
    """

    def __len__(self) -> int:
        return self.group.shape[0]

    @property
    def path(self) -> Trajectory:
        """The recorded decisions. Raises ValueError if none were asked for."""
        if self.trajectory is None:
            raise ValueError("this rollout has no path: its algorithm's `needs.path` is False")
        return self.trajectory

    def prompt_of(self) -> list[Prompt]:
        """Return the prompt of every sample."""
        return [self.prompts[i] for i in self.prompt_index.tolist()]


@dataclass(frozen=True)
class RewardOutput:
    """What a judge says of a batch: a score a sample, whether it could be judged, and why.

    A sample that is not `valid` leaves its group and the loss; its score is never read. `components` are named numbers,
    `uncertainty` one standard deviation of the score in its own unit, `explanation` a text for people (of a judge that
    is not ours: never trusted), and `maps` say where in the picture, higher being better.
    """

    score: Float[Tensor, " batch"]
    valid: Bool[Tensor, " batch"]
    components: Mapping[str, Float[Tensor, " batch"]] = field(default_factory=dict)
    uncertainty: Float[Tensor, " batch"] | None = None
    explanation: Sequence[str | None] = ()
    maps: Mapping[str, Float[Tensor, "batch rows columns"]] = field(default_factory=dict)


@dataclass(frozen=True)
class RewardSpec:
    """What a reward says about itself. Higher is always better.

    `low` and `high` bound the raw score, in `unit`. `needs` names what it reads beside the media: "prompt", "reference"
    or "meta.KEY". `axes` are those of the media that it reads: C, H, W, and T for time. `components` says what each
    named number means, with its range, and `maps` what each map shows. `version` changes whenever an equal input may
    get another score.
    """

    name: str
    about: str
    low: float = -math.inf
    high: float = math.inf
    unit: str = ""
    needs: tuple[str, ...] = ()
    axes: tuple[str, ...] = ("C", "H", "W")
    components: Mapping[str, str] = field(default_factory=dict)
    maps: Mapping[str, str] = field(default_factory=dict)
    differentiable: bool = False
    deterministic: bool = True
    elsewhere: bool = False
    """Whether a service answers, which may cost money: it is not asked more than needed."""
    version: str = "1"
    source: str = ""
    code_licence: str = "Apache-2.0"
    weights_licence: str = ""
    """Empty: it has no weights."""


@dataclass(frozen=True)
class Term:
    """One of the terms that add up to a total: it contributes weight x value."""

    weight: float
    value: Float[Tensor, " batch"]


@dataclass(frozen=True)
class Composed:
    """A total, NaN where not `valid`, and the terms, by their text, of what is reported of it."""

    total: Float[Tensor, " batch"]
    valid: Bool[Tensor, " batch"]
    terms: Mapping[str, Term]


@dataclass(frozen=True)
class Scored:
    """A judged rollout: raw reward columns by name, which samples were judged by all, and the total to maximise.

    `terms` add up to what is `reported`; without any it is the total.
    """

    rollout: Rollout
    rewards: Mapping[str, Float[Tensor, " batch"]]
    valid: Bool[Tensor, " batch"]
    total: Float[Tensor, " batch"]
    terms: Mapping[str, Term] = field(default_factory=dict)
    places: Float[Tensor, "batch *latent"] | None = None
    """What a focus saw at each place of the latent (`training/focus.py`); None: it is everywhere."""

    @property
    def reported(self) -> Float[Tensor, " batch"]:
        """The total before its terms were compared within groups, whose mean is the same whoever won."""
        if not self.terms:
            return self.total
        return torch.stack([term.weight * term.value for term in self.terms.values()]).sum(0)


Advantage: TypeAlias = Float[Tensor, " batch"] | Float[Tensor, "batch steps"] | Float[Tensor, "batch steps *latent"]
"""How much better than expected each sample was, each decision, or, dense, each decision at each place."""


@dataclass(frozen=True)
class Batch:
    """What an algorithm learns from: a rollout and how much better than expected each sample (or decision) was.

    A dense `advantage` also says where in the latent; an axis of length 1 is alike along it, the steps' too. `weight`
    is what the loss of each sample's decisions is multiplied by; None: 1.
    """

    rollout: Rollout
    advantage: Advantage
    weight: Float[Tensor, " batch"] | None = None

    def decision_advantage(self, pack: Decisions | Renoised) -> Float[Tensor, " pack"] | Float[Tensor, "pack *latent"]:
        """Return the advantage of each decision: its own, or its sample's; a dense one over the latent.

        It is where the pack is, and nobody waits for it.
        """
        place = pack.row if self.advantage.ndim == 1 else (pack.row, pack.column if self.advantage.shape[1] > 1 else 0)
        return sent(self.advantage[place], pack.prompt_index.device)


@dataclass(frozen=True)
class LossOutput:
    """One micro-batch's share of the loss of an optimizer step.

    The shares of a step add up to the loss over its denominator, so they are summed, never averaged. `metrics` are sums
    over the micro-batch's weights, and `metrics["weight"]` is that weight; `learning/health.py` says what others mean.
    """

    loss: Float[Tensor, ""]
    metrics: Mapping[str, Float[Tensor, ""]]


PassLoss: TypeAlias = tuple[Float[Tensor, " pack"], dict[str, Float[Tensor, " pack"]]]
"""The loss of each decision (or renoised sample) of a pass, and its health by a name of `limner.learning.health`."""


@dataclass(frozen=True)
class Sampled:
    """What `Policy.sample` returns: finished samples, and recorded decisions, if asked."""

    sample: Shaped[Tensor, "batch *latent"]
    trajectory: Trajectory | None


@dataclass(frozen=True)
class LatentSpec:
    """The shape of one latent (without batch), and how and where latents are kept: float32, where the network is."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @property
    def size(self) -> int:
        """Number of elements D of one latent."""
        return int(torch.Size(self.shape).numel())


@dataclass(frozen=True)
class Decisions:
    """A micro-batch of recorded decisions, and of the network evaluations that score them.

    `state` and `prompt_index` have a row for each evaluation, all else for each decision: `place` is the evaluation
    that scores it. An autoregressive network scores all tokens of a sample in one, a denoiser takes one for each step.
    `row` is the sample's place in the rollout that was packed, and `column` the decision's place in its trajectory;
    `length` and `old` are as in `Trajectory`.
    """

    state: Tree
    prompt_index: Int[Tensor, " evaluations"]
    place: Int[Tensor, " pack"]
    choice: Shaped[Tensor, "pack *choice"]
    length: Float[Tensor, " pack"]
    old: Tree
    row: Int[Tensor, " pack"]
    column: Int[Tensor, " pack"]

    @property
    def evaluations(self) -> int:
        """How many times the pack sends a sample through the network."""
        return self.prompt_index.shape[0]

    def __len__(self) -> int:
        return self.row.shape[0]


@dataclass(frozen=True)
class Renoised:
    """A micro-batch of finished samples at drawn times, one network evaluation each: `state` is x0 noised to time t.

    `row` is the sample's place in the rollout, and `column` the number of the time among the sample's own.
    """

    state: Float[Tensor, "pack *latent"]
    x0: Float[Tensor, "pack *latent"]
    noise: Float[Tensor, "pack *latent"]
    t: Float[Tensor, " pack"]
    prompt_index: Int[Tensor, " pack"]
    row: Int[Tensor, " pack"]
    column: Int[Tensor, " pack"]
    region: Float[Tensor, "pack *where"] | None = None
    """As in `Rollout`."""

    @property
    def velocity(self) -> Float[Tensor, "pack *latent"]:
        """noise - x0, what a perfect restoration predicts."""
        return self.noise - self.x0

    def __len__(self) -> int:
        return self.row.shape[0]


Pack = TypeVar("Pack", Decisions, Renoised)


@dataclass(frozen=True)
class Pairs(Generic[Pack]):
    """A micro-batch of pairs, a better and a worse sample of one group each: a decision, or a noised sample, of both.

    `both` holds those of the better samples and, in the same order, those of the worse ones. `margin` is by how much
    the advantage of the better sample exceeds that of the worse one.
    """

    both: Pack
    margin: Float[Tensor, " pairs"]

    def __len__(self) -> int:
        return self.margin.shape[0]
