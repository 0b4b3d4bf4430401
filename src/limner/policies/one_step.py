"""One-step generators as policies: y = G(z, c) is one evaluation of a network, so the one decision is made beside it.

A generator of one step draws z and has no density that could be computed. `OneStepSampler` says where there is chance
that has one:

    "output"   y ~ N(G(z, c), noise^2 I), z given        G learns; the decision is y, and what was decided in is z
    "latent"   z ~ N(mean(c), std(c)^2 I), y = G(z, c)   where z is drawn from learns, and G stays as it is
    "noise"    z ~ N((1 - noise^2)^1/2 n + f(n, c), noise^2 I), y = G(z, c), n given
                                                         what n becomes learns, f = 0 at first; G stays as it is

The gradient of the first is that of E[r] blurred by the noise, and grows noisier as the noise shrinks; with
`shared_start` a group begins with one z, or n, and only the noise tells its samples apart. The KL of a decision is
|G - G_ref|^2 / (2 noise^2) in the first, KL(N(mean, std^2 I) || N(0, I)) in the second, and |f|^2 / (2 noise^2) in the
third, where the reference draws z as it was.

Source: none known for generators of pictures; the first is REINFORCE's Gaussian unit (Williams, 1992, section 6) with a
std that is given. f is the noise hypernetwork of Eyring et al., arXiv:2508.09968, whose penalty is |f|^2 too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, cast, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limner.core.errors import UserError
from limner.core.protocols import Algorithm, Denoiser, Generator
from limner.core.rng import Rng
from limner.core.settings import NotNegative, settings
from limner.core.transfer import sent
from limner.core.tree import at
from limner.core.types import Condition, Decisions, LatentSpec, Rollout, Sampled, Trajectory
from limner.diffusion.gaussian import Gaussian
from limner.diffusion.prediction import to_estimate

Chance: TypeAlias = Literal["output", "latent", "noise"]
PARTS = {"output": "the generator", "latent": "what z is drawn from", "noise": "what noise becomes"}


@runtime_checkable
class OneStepModel(Generator, Protocol):
    """A generator that makes a sample of noise in one evaluation, such as a GAN."""

    @property
    def learns(self) -> Chance:
        """Which chance its `networks` change: what comes out, where they are G, or what goes in, z's mean and std."""
        ...

    def start(self, condition: Condition, prompt_index: Int[Tensor, " batch"]) -> Gaussian:
        """Return what z is drawn from: N(0, I), until something has learned better."""
        ...

    def noise(self) -> LatentSpec:
        """Return the shape of one z, and how and where it is kept."""
        ...

    def generate(
        self, z: Float[Tensor, "batch *noise"], condition: Condition, prompt_index: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch *latent"]:
        """Return G(z, c), a sample that `decode` shows."""
        ...


@runtime_checkable
class Leading(OneStepModel, Protocol):
    """One that can learn where noise is to go before it is given to the generator."""

    def lead(
        self, n: Float[Tensor, "batch *noise"], condition: Condition, prompt_index: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch *noise"]:
        """Return f(n, c), what is added to noise; 0 until something has learned better."""
        ...


@dataclass(frozen=True)
class FirstStep:
    """A denoiser as a generator of one step: G(z, c) = x0(z, c, t = 1), what it takes noise alone for.

    Of a student of few steps that is a picture (consistency models, arXiv:2303.01469, section 2); of any other denoiser
    it is near the mean of all pictures.
    """

    denoiser: Denoiser
    learns: ClassVar[Chance] = "output"

    def latent(self) -> LatentSpec:
        """Return the shape of one latent."""
        return self.denoiser.latent()

    def noise(self) -> LatentSpec:
        """Return the shape of one z: that of a latent."""
        return self.denoiser.latent()

    def start(self, condition: Condition, prompt_index: Int[Tensor, " batch"]) -> Gaussian:
        """Return N(0, I)."""
        z = self.noise()
        mean = torch.zeros(len(prompt_index), *z.shape, device=z.device)
        return Gaussian(mean, torch.ones(len(mean), device=z.device))

    def generate(
        self, z: Float[Tensor, "batch *latent"], condition: Condition, prompt_index: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch *latent"]:
        """Return G(z, c)."""
        t = torch.ones(len(z), device=z.device)
        said = self.denoiser.predict(z, t, condition, prompt_index)
        return to_estimate(self.denoiser.prediction, said, z, t, self.denoiser.schedule).x0


@settings
class OneStepSampler:
    """How a one-step generator's samples are drawn, and which chance is the decision."""

    chance: Chance = "output"
    """Whether noise on what comes out is decided, or the z that goes in, or what noise becomes before it goes in."""
    noise: NotNegative = 0.05
    """The std of the noise on what comes out, in units of the sample, or, with chance noise, of that in z; 0: none, and
    no decision."""
    shared_start: bool = False
    """Whether a group begins with one z, or with chance noise one n."""

    def __post_init__(self) -> None:
        if self.chance == "noise" and self.noise >= 1:
            raise UserError(
                f"sampler.noise {self.noise:g} with chance noise is a share of z, whose std is 1: take one below 1, "
                "as 0.1"
            )
        if self.chance == "latent" and self.shared_start:
            raise UserError(
                "sampler.shared_start gives a group one z, which is what chance latent decides: set it to false, or "
                "take chance output"
            )

    def policy(self, model: OneStepModel | Denoiser) -> OneStep:
        """Return the policy that draws from `model` so. Raises UserError where another part of it learns."""
        drawn = FirstStep(model) if isinstance(model, Denoiser) else model
        if drawn.learns != self.chance:
            raise UserError(
                f"sampler.chance {self.chance} decides what {PARTS[self.chance]} gives, but in {type(model).__name__} "
                f"{PARTS[drawn.learns]} learns: set sampler.chance to {drawn.learns}, or, for a GAN, "
                f"model.settings.learns to {self.chance}"
            )
        return OneStep(drawn, self)

    def require(self, algorithm: Algorithm, group_size: int) -> None:
        """Raise UserError where `algorithm` scores decisions, but none are made, or compares those of a tree."""
        name = type(algorithm).__name__
        if algorithm.needs.tree:
            raise UserError(
                f"{name} compares the branches of a tree, but there is one step: take algorithm.scale group"
            )
        if algorithm.needs.path and self.chance != "latent" and self.noise == 0:
            raise UserError(
                f"{name} scores decisions, but with sampler.noise 0 none is made: raise it (a few "
                "hundredths of the sample's spread), or take sampler.chance latent"
            )

    def plain(self, steps: int | None = None, guidance: float | None = None) -> OneStepSampler:
        """Return the same without noise of its own: there is one step, and no guidance."""
        return OneStepSampler(self.chance, noise=0.0)

    def described(self) -> Mapping[str, str]:
        """Return what a summary says of it, by title."""
        return {"Steps": "1", "Chance": self.chance} | ({"Noise": f"{self.noise:g}"} if self.chance != "latent" else {})

    def call(self) -> Mapping[str, Any]:
        """Return nothing: there is nothing to ask for."""
        return {}


@dataclass(frozen=True)
class Given:
    """What each sample's one decision was made in: its z, or n; where z is drawn, nothing but the prompt; and it."""

    z: Float[Tensor, "batch *steps_and_noise"]
    choices: Float[Tensor, "batch *steps_and_choice"]

    def features(self) -> tuple[Float[Tensor, "batch *steps_and_noise"]]:
        """Return z."""
        return (self.z,)


@dataclass(frozen=True)
class OneStep:
    """A one-step generator and how it is sampled."""

    model: OneStepModel | FirstStep
    sampler: OneStepSampler

    def at(self, iteration: int) -> OneStep:
        """Return itself: it always samples alike."""
        return self

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
        """Draw a sample for each id, by one evaluation, and record, if asked, what its decision was drawn from."""
        index = prompt_index.to(self.model.latent().device)
        start = self.model.start(condition, index)
        names = group if self.sampler.shared_start else id
        z = start.sample(rng.child("start").normal(names, tuple(start.mean.shape[1:])).to(start.mean))
        given, drawn_from, choice = z, start, z
        if self.sampler.chance == "latent":
            given = torch.zeros_like(z[:, :0])
        elif self.sampler.chance == "noise":
            drawn_from = self._led(z, condition, index)
            choice = z = drawn_from.sample(rng.child("led").normal(id, tuple(z.shape[1:])).to(z))
        y = self.model.generate(z, condition, index)
        if self.sampler.chance == "output":
            drawn_from = self._blurred(y)
            choice = y = drawn_from.sample(rng.child("output").normal(id, tuple(y.shape[1:])).to(y))
        if not record:
            return Sampled(y, None)
        # copies: where z is drawn from are weights, which change before the ratio is taken
        old = Gaussian(drawn_from.mean[:, None].clone(), drawn_from.std[:, None].clone())
        once = torch.ones(len(id), 1)
        return Sampled(y, Trajectory(Given(given[:, None], choice[:, None]), once, old, once.bool(), id[:, None]))

    def _blurred(self, y: Float[Tensor, "batch *latent"]) -> Gaussian:
        return Gaussian(y, torch.full_like(y.flatten(1)[:, 0], self.sampler.noise))

    def _led(
        self, n: Float[Tensor, "batch *noise"], condition: Condition, prompt_index: Int[Tensor, " batch"]
    ) -> Gaussian:
        """Return what z is drawn from, given n: N(0, I) over all n, while nothing is added."""
        share = math.sqrt(1 - self.sampler.noise**2)
        return self._blurred(share * n + cast(Leading, self.model).lead(n, condition, prompt_index))

    def distribution(self, decisions: Decisions, condition: Condition) -> Gaussian:
        """Return the Gaussian of each decision under the present weights."""
        if self.sampler.chance == "latent":
            return self.model.start(condition, decisions.prompt_index)
        if self.sampler.chance == "noise":
            return self._led(decisions.state.z, condition, decisions.prompt_index)
        return self._blurred(self.model.generate(decisions.state.z, condition, decisions.prompt_index))

    def outcome(self, decisions: Decisions, condition: Condition) -> tuple[Gaussian, Float[Tensor, "batch *latent"]]:
        """Return the Gaussian of each decision, and y for what was drawn of it, with gradients.

        A choice is mean + std e, and e stays what it was: under the weights that drew it y is the sample.
        """
        drawn_from, old = self.distribution(decisions, condition), decisions.old
        choice = drawn_from.sample(old.noise_of(decisions.choice))
        if self.sampler.chance == "output":
            return drawn_from, choice
        return drawn_from, self.model.generate(choice, condition, decisions.prompt_index)

    def pack(self, rollout: Rollout, rows: Int[Tensor, " rows"], size: int) -> Iterator[Decisions]:
        """Yield the decisions of the samples `rows`, one each, `size` at a time."""
        path = rollout.path
        for row in rows[path.mask[rows, 0]].split(size):
            column = torch.zeros_like(row)
            state, length, old = at((path.states, path.length, path.old), row, column)
            index = sent(rollout.prompt_index[row], state.z.device)
            yield Decisions(state, index, torch.arange(len(row)), state.choices, length, old, row, column)

    def elements(self) -> int:
        """Return the number of elements D of what is decided."""
        return (self.model.latent() if self.sampler.chance == "output" else self.model.noise()).size
