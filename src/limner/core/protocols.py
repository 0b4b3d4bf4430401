"""The seams: what a generator, a policy, a reward and an algorithm are to one another.

Implementations are frozen dataclasses that fit these protocols; nothing here is ever subclassed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from limner.core.media import Media
from limner.core.needs import LossMean, Needs, Renoising
from limner.core.rng import Rng
from limner.core.team import ALONE, Team
from limner.core.types import (
    Batch,
    Composed,
    Condition,
    Decisions,
    LatentSpec,
    Pairs,
    PassLoss,
    Prompt,
    Renoised,
    RewardOutput,
    RewardSpec,
    Rollout,
    Sampled,
    Scored,
    Source,
)
from limner.diffusion.prediction import Estimate, PredictionKind
from limner.diffusion.schedule import Schedule
from limner.diffusion.timesteps import Grid


class Generator(Protocol):
    """A network family's adapter: prompts in, media out."""

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The trainable parts by name (LoRA and full fine-tuning act on these, and only these)."""
        ...

    def with_networks(self, networks: Mapping[str, nn.Module]) -> Self:
        """Return this adapter over other networks of the same kind; all else is shared."""
        ...

    def encode(self, prompts: Sequence[Prompt]) -> Condition:
        """Encode each prompt once, and after them the negative prompt; a tensor tree with leading axis prompts + 1.

        The negative prompt is empty unless the model's settings have one.
        """
        ...

    def decode(self, sample: Float[Tensor, "batch *latent"]) -> Media:
        """Return what a clean sample shows."""
        ...

    def latent(self) -> LatentSpec:
        """Return the shape of one latent, and where latents and conditions live: nothing else decides a device."""
        ...


@runtime_checkable
class Denoiser(Generator, Protocol):
    """A diffusion or flow-matching network in its native prediction, on limner's time axis."""

    @property
    def schedule(self) -> Schedule: ...

    @property
    def prediction(self) -> PredictionKind: ...

    def times(self, steps: int, grid: Grid = "own") -> Float[Tensor, " points"]:
        """Return the sampler's grid, exact, `steps + 1` times, noisiest first, on the CPU."""
        ...

    def predict(
        self,
        x: Float[Tensor, "batch *latent"],
        t: Float[Tensor, " batch"],
        condition: Condition,
        prompt_index: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch *latent"]:
        """Return the native prediction, float32; sample i is conditioned on row `prompt_index[i]` of `condition`.

        All of it is on the device of `latent()`.
        """
        ...


class Adapter(Denoiser, Protocol):
    """A denoiser that was loaded from a library's own folder, and can be written as that library loads it."""

    def encode_media(self, media: Media) -> Float[Tensor, "batch *latent"]:
        """Return the latents of media, the inverse of `decode` as far as there is one."""
        ...

    @property
    def lora_targets(self) -> Sequence[str]:
        """Name endings of the layers that LoRA adapts unless a recipe says otherwise."""
        ...

    @property
    def pipeline_name(self) -> str:
        """Name of the library's class that loads the folder."""
        ...

    @property
    def left_out(self) -> Sequence[str]:
        """Parts that the library would ask for unless it is told that they are None."""
        ...

    def export_lora(self, folder: Path) -> None:
        """Write the trained low-rank updates, with their metadata."""
        ...

    def export_full(self, folder: Path) -> None:
        """Write the trained networks whole."""
        ...


class ModelSettings(Protocol):
    """What can be chosen about a kind of model, and how it is loaded; imports its library only then."""

    @property
    def serves(self) -> Sequence[str]:
        """Names of the pipeline classes that it loads folders of, as `model_index.json` has them."""
        ...

    def load(self, source: Source, dtype: torch.dtype, device: torch.device) -> Adapter:
        """Return the adapter of a folder, a hub id, or a pipeline in memory, which is not changed.

        Raises UserError, before the network, for what it cannot be.
        """
        ...

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments that ask the library's pipeline for what these, and `sampler` (`Sampling.call`), say."""
        ...


class Distribution(Protocol):
    """What a policy may choose from in one decision."""

    def log_ratio(self, old: Any, choice: Tensor) -> Float[Tensor, " batch"]:
        """Return log p(choice) - log p_old(choice) in nats, summed over the choice."""
        ...

    def normalised_log_ratio(self, old: Any, choice: Tensor) -> Float[Tensor, " batch"]:
        """Return the log-ratio in a unit in which its mean over old choices is 0 and its spread alike everywhere."""
        ...

    def kl(self, other: Any) -> Float[Tensor, " batch"]:
        """Return KL(self || other) in nats."""
        ...


@runtime_checkable
class Policy(Protocol):
    """A model plus how it is sampled; written once for a family of models, never for one model."""

    def at(self, iteration: int) -> Self:
        """Return the policy as it samples in `iteration`, where that changes in the course of training."""
        ...

    def sample(
        self,
        condition: Condition,
        prompt_index: Int[Tensor, " batch"],
        group: Int[Tensor, " batch"],
        id: Int[Tensor, " batch"],
        *,
        rng: Rng,
        record: bool,
    ) -> Sampled:
        """Draw one sample for each id; its randomness depends on (rng, id) alone, shared choices on (rng, group)."""
        ...


@runtime_checkable
class DecisionProcess(Policy, Protocol):
    """A policy whose samples come about by decisions that it can score again."""

    def distribution(self, decisions: Decisions, condition: Condition) -> Distribution:
        """Return the distribution of each decision under the present weights, by `decisions.evaluations` of them."""
        ...

    def pack(self, rollout: Rollout, rows: Int[Tensor, " rows"], size: int) -> Iterator[Decisions]:
        """Yield the decisions that count of the samples `rows`, as many as `size` evaluations score at a time."""
        ...

    def elements(self) -> int:
        """Return the number of elements D of one choice: a log-ratio over D is the log-ratio per element."""
        ...


@runtime_checkable
class Reparameterised(DecisionProcess, Protocol):
    """A policy whose samples are functions of its weights, given the chance in them: one decision leads to each."""

    def outcome(
        self, decisions: Decisions, condition: Condition
    ) -> tuple[Distribution, Float[Tensor, "batch *latent"]]:
        """Return the distribution of each decision, and the sample that the same chance leads to, with gradients."""
        ...


@runtime_checkable
class ForwardProcess(Policy, Protocol):
    """A policy that can noise its finished samples again, and restore them."""

    def renoise(
        self, rollout: Rollout, rows: Int[Tensor, " rows"], how: Renoising, rng: Rng, size: int
    ) -> Iterator[Renoised]:
        """Yield the samples `rows` noised again, `size` at a time.

        Times and noise of a sample depend on (rng, its id) alone, or, `how.by_group`, on (rng, its group).
        """
        ...

    def restore(self, pack: Renoised, condition: Condition) -> Estimate:
        """Return what the network takes renoised samples to be made of: one network evaluation each."""
        ...


PolicyKind = TypeVar("PolicyKind", bound=Policy, covariant=True)


@dataclass(frozen=True)
class Actors(Generic[PolicyKind]):
    """Policies over one network: trained, frozen initial (needs.reference), and behaviour weights (needs.old).

    Where an algorithm does not need one, the field holds the trained policy. Gradients flow through all of them.
    """

    policy: PolicyKind
    reference: PolicyKind
    old: PolicyKind


@dataclass(frozen=True)
class Context:
    """What an iteration may use beside its samples: randomness, its number, the evaluations of a pass, and the team.

    `memory` is what an algorithm remembers from one iteration to the next (statistics, a critic): nested dicts and
    lists of tensors, numbers and texts, empty at first. `loss_mean` is what a loss over decisions is a mean over.
    `said` is what it says of the iteration, numbers by a name of `limner.learning.health`.
    """

    rng: Rng
    step: int
    micro_batch: int
    memory: dict[str, Any] = field(default_factory=dict)
    team: Team = ALONE
    loss_mean: LossMean = "decisions"
    said: dict[str, float] = field(default_factory=dict)


@runtime_checkable
class Algorithm(Protocol):
    """Credit assignment and a loss: `pass_loss`, in the form that its needs call for."""

    @property
    def needs(self) -> Needs: ...

    @property
    def num_updates(self) -> int:
        """Optimizer steps a rollout is split over, at most."""
        ...

    def advantage(self, scored: Scored, context: Context) -> Float[Tensor, " batch"] | Float[Tensor, "batch steps"]:
        """Return how much better than expected each sample, or each decision, was; 0 for what teaches nothing."""
        ...


class OnDecisions(Algorithm, Protocol):
    """What an algorithm with `needs.path` is."""

    def pass_loss(self, actors: Actors[DecisionProcess], batch: Batch, pack: Decisions) -> PassLoss:
        """Return the loss of each decision, and its health."""
        ...


class OnRenoised(Algorithm, Protocol):
    """What an algorithm with `needs.renoise` is."""

    def pass_loss(self, actors: Actors[ForwardProcess], batch: Batch, pack: Renoised) -> PassLoss:
        """Return the loss of each (sample, time), and its health."""
        ...


class OnGroups(Algorithm, Protocol):
    """What an algorithm with `needs.renoise.by_group` or `by_all` is."""

    def measure(self, actors: Actors[ForwardProcess], batch: Batch, pack: Renoised) -> Float[Tensor, " pack"]:
        """Return a number of each (sample, time); it is asked without gradient."""
        ...

    def pass_loss(
        self, actors: Actors[ForwardProcess], batch: Batch, pack: Renoised, group_mean: Float[Tensor, " pack"]
    ) -> PassLoss:
        """Return the loss of each (sample, time), given the mean of its group then, or, `by_all`, of the whole step."""
        ...


class OnPairs(Algorithm, Protocol):
    """What an algorithm with `needs.pairs` is."""

    def pass_loss(self, actors: Actors[Any], batch: Batch, pack: Pairs[Any]) -> PassLoss:
        """Return the loss of each pair, and its health."""
        ...


class OwnUpdate(OnDecisions, Protocol):
    """What an algorithm with `needs.own_update` is: no sum of losses for an optimizer to step on."""

    def update(
        self, actors: Actors[DecisionProcess], parameters: Sequence[nn.Parameter], batch: Batch, context: Context
    ) -> dict[str, float]:
        """Change `parameters` in place; return its health."""
        ...


class Sampling(Protocol):
    """How samples are drawn: settings that make a policy of a model; written once for a family of models."""

    def policy(self, model: Any) -> Policy:
        """Return the policy that draws from `model` so."""
        ...

    def require(self, algorithm: Algorithm, group_size: int) -> None:
        """Raise UserError where `algorithm` cannot learn from groups that are drawn so."""
        ...

    def plain(self, steps: int | None = None, guidance: float | None = None) -> Sampling:
        """Return how samples are drawn where nothing is learned from it; None: as many steps, or guidance, as here."""
        ...

    def described(self) -> Mapping[str, str]:
        """Return what a summary says of it, by title."""
        ...

    def call(self) -> Mapping[str, Any]:
        """Return the arguments that ask the library's own pipeline for the same."""
        ...


class Jury(Protocol):
    """The judges of a run, and how their answers make the total."""

    def columns(self, media: Media, prompts: Sequence[Prompt]) -> dict[str, Float[Tensor, " batch"]]:
        """Ask every judge once; return raw numbers by name, NaN where not judged."""
        ...

    def comparisons(
        self, media: Media, prompts: Sequence[Prompt], group: Int[Tensor, " batch"]
    ) -> dict[str, Float[Tensor, " batch"]]:
        """Ask those that compare about every pair of a group; return shares of wins by name."""
        ...

    def total(
        self,
        columns: Mapping[str, Float[Tensor, " batch"]],
        group: Int[Tensor, " batch"],
        step: int = 0,
        memory: dict[str, Any] | None = None,
    ) -> Composed:
        """Return the total of samples that are compared within their groups; it may change `memory`."""
        ...


Reward = Callable[[Media, Sequence[Prompt]], Tensor | RewardOutput]
"""Media and one prompt a sample in, one score a sample out; what it cannot judge is invalid, never zero."""


@runtime_checkable
class Specified(Protocol):
    """A reward that describes itself."""

    @property
    def spec(self) -> RewardSpec: ...


class Judge(Specified, Protocol):
    """A reward whose answers have one form (`limner.judging.checked`)."""

    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        """Judge what a file would hold: float64 on the CPU, without gradients, NaN where not `valid`."""
        ...

    def differentiable(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        """Judge what is given, not rounded, on its own device and with gradients.

        Raises UserError if the spec does not say that it is differentiable.
        """
        ...


@runtime_checkable
class Comparer(Specified, Protocol):
    """A judge that compares instead of scoring; what is not comparable by it is not `valid`."""

    def compare(self, media_a: Media, media_b: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        """Return P(a is better than b), in [0, 1], for each pair of samples made for one prompt; a tie counts half."""
        ...
