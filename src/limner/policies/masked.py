"""Unmasking as a policy: what is written so far is the state; where to write next, and what, are the choice.

A sample begins with nothing written. Each of a few steps evaluates the network once, for every place at a time, and
writes at several of them: the places in an order, and a code at each from the network's probabilities there. A decision
is one place with its code, and those of a step share their evaluation:

    log p(step) = sum over the places j that it writes at, in order, of  log p(j | still open) + log p_j(code_j)

`MaskedSampler` names the order. In random order p(j | open) is one over the places that are open: a constant, and what
is learned is the codes. In Plackett-Luce order it is softmax(-entropy_j / order_temperature) over the open places, and
learned too. Both are exact. MaskGIT's own order, by the probability of codes that are drawn for every place and mostly
thrown away, has no probability that could be computed: "confidence" draws so, and is scored by an ESTIMATOR, which
hides a part of the finished sample at random and scores what was there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Protocol, TypeAlias, cast, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from limner.core.errors import UserError
from limner.core.protocols import Algorithm, Generator
from limner.core.rng import Rng
from limner.core.settings import Count, NotNegative, Positive, Range, settings
from limner.core.transfer import sent
from limner.core.tree import at
from limner.core.types import Condition, Decisions, Rollout, Sampled, Trajectory
from limner.objectives.categorical import Categorical
from limner.policies.denoising import Guidance
from limner.policies.guided import guided
from limner.policies.tokens import require_choices

MASKED = -1
"""Stands in a sample where nothing is written yet."""
Order: TypeAlias = Literal["random", "plackett_luce", "confidence"]


@runtime_checkable
class MaskedModel(Generator, Protocol):
    """A generator that fills in what is hidden of a sample, all of it at a time; `latent().shape` is (tokens,)."""

    def fill(
        self, tokens: Int[Tensor, "batch tokens"], condition: Condition, prompt_index: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch tokens codes"]:
        """Return the logits of every place given what is written at the others, `MASKED` where nothing is."""
        ...


@settings
class MaskedSampler:
    """How a masked model's samples are drawn: in `steps` steps, ever more places at a time.

    After step k of S there are floor(T cos(pi k / 2 S)) of T places open ("cosine"), or floor(T (1 - k / S)), and in
    each step at least one is written.

    Source: MaskGIT, arXiv:2202.04200, section 3.2 (schedule, confidence with Gumbel noise); Plackett-Luce as the order
    of scores with Gumbel noise, arXiv:1903.06059, section 2.2; the estimator UniGRPO's, arXiv:2505.15809, section 4.2,
    and MaskGRPO's, arXiv:2510.02880, published code: hidden shares from `least_hidden` to all but a thousandth.
    """

    order: Order = "random"
    """Where it is written first; what "confidence" draws is scored by an estimator."""
    steps: Count = 8
    """Network evaluations of a sample (twice as many with guidance)."""
    schedule: Literal["cosine", "linear"] = "cosine"
    """How the number of places that are written grows from step to step."""
    temperature: Positive = 1.0
    """Divides logits: below 1 likely codes become likelier."""
    order_temperature: NotNegative = 1.0
    """How much chance there is in an order that is not random; for confidence it falls to 0 in the course of a sample,
    as MaskGIT's does."""
    guidance: Guidance = 1.0
    """The scale of classifier-free guidance; 1: none."""
    num_hidden: Count = 2
    """How often the estimator hides a part of a sample, each time for one network evaluation."""
    least_hidden: Annotated[float, Range(above=0, most=1)] = 0.5
    """The share that it hides at least."""

    def __post_init__(self) -> None:
        if self.order == "plackett_luce" and self.order_temperature == 0:
            raise UserError(
                "sampler.order_temperature is 0, where order plackett_luce has no probability: raise it, or take order "
                "confidence, which is scored by an estimator"
            )

    def policy(self, model: MaskedModel) -> Unmasking:
        """Return the policy that draws from `model` so. Raises UserError for more steps than there are places."""
        (length,) = model.latent().shape
        if self.steps > length:
            raise UserError(
                f"sampler.steps is {self.steps}, but a sample has {length} places, and each step writes at one or "
                f"more: set it to {length} or less"
            )
        return Unmasking(model, self)

    def require(self, algorithm: Algorithm, group_size: int) -> None:
        """Raise UserError for an algorithm that asks for a tree, or for what Gaussian noise alone has."""
        require_choices(algorithm, "masked tokens")

    def plain(self, steps: int | None = None, guidance: float | None = None) -> MaskedSampler:
        """Return the same with another guidance: more steps are another distribution, and no finer ODE."""
        return replace(self, guidance=self.guidance if guidance is None else guidance)

    def described(self) -> Mapping[str, str]:
        """Return what a summary says of it, by title."""
        return {"Order": self.order, "Steps": str(self.steps), "Guidance scale": f"{self.guidance:g}"}

    def call(self) -> Mapping[str, Any]:
        """Return the arguments that ask a diffusers pipeline for as many steps and as much guidance."""
        return {"num_inference_steps": self.steps, "guidance_scale": self.guidance}

    @property
    def guidance_of_updates(self) -> float:
        """The scale by which decisions are scored."""
        return self.guidance

    def spans(self, length: int) -> Sequence[tuple[int, int]]:
        """Return for each step how many places are written before it, and after."""
        found, written = [], 0
        for k in range(1, self.steps + 1):
            share = math.cos(math.pi * k / (2 * self.steps)) if self.schedule == "cosine" else 1 - k / self.steps
            after = length - math.floor(length * share + 1e-9)
            after = length if k == self.steps else min(max(after, written + 1), length - (self.steps - k))
            found.append((written, after))
            written = after
        return found

    def hidden(self, length: int) -> Sequence[int]:
        """Return how many places the estimator hides each time: ever more, and at least one."""
        shares = [
            min(self.least_hidden + (1 - self.least_hidden) * (i + 1) / self.num_hidden, 0.999)
            for i in range(self.num_hidden)
        ]
        return [max(1, math.floor(share * length)) for share in shares]


@dataclass(frozen=True, eq=False)
class Placement:
    """The distribution of a place, among those that are open, and of the code that is written there.

    The code's is that at the place which was chosen: a divergence is taken at the choices that were made, as that of a
    whole path is at the states that were visited. A choice is (place, code).
    """

    place: Categorical
    code: Categorical

    def log_prob(self, choice: Int[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        """Return log p(place) + log p(code | place)."""
        return self.place.log_prob(choice[..., 0]) + self.code.log_prob(choice[..., 1])

    def log_ratio(self, old: Placement, choice: Int[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        """Return log p(choice) - log p_old(choice)."""
        places = self.place.log_ratio(old.place, choice[..., 0])
        return places + self.code.log_ratio(old.code, choice[..., 1])

    def normalised_log_ratio(self, old: Placement, choice: Int[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        """Return log_ratio + KL(old || self), whose mean over what `old` draws is 0."""
        return self.log_ratio(old, choice) + old.kl(self)

    def kl(self, other: Placement) -> Float[Tensor, "*batch"]:
        """Return KL(self || other) of the place, and of the code at the place that was chosen."""
        return self.place.kl(other.place) + self.code.kl(other.code)


@dataclass(frozen=True)
class Partly:
    """What was written in each evaluation, which evaluation scores each decision, and what was decided."""

    tokens: Int[Tensor, "batch evaluations tokens"]
    evaluation: Int[Tensor, "batch steps"]
    choices: Int[Tensor, "batch steps 2"]

    def features(self) -> tuple[Float[Tensor, "batch steps tokens"]]:
        """Return for each decision what was written before its step, and `MASKED` elsewhere."""
        row = torch.arange(len(self.tokens), device=self.tokens.device)[:, None]
        return (self.tokens[row, self.evaluation].float(),)


@dataclass(frozen=True)
class Step:
    """An evaluation of what was written, the decisions that it scores, and what these were drawn from."""

    tokens: Int[Tensor, "batch tokens"]
    choices: Int[Tensor, "batch places 2"]
    drawn_from: Placement


@dataclass(frozen=True)
class Unmasking:
    """A masked model and how its samples are drawn."""

    model: MaskedModel
    sampler: MaskedSampler

    def at(self, iteration: int) -> Unmasking:
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
        """Write the places of each id step by step, and record, if asked, what they were drawn from.

        Of order "confidence" what the estimator finds in the finished sample is recorded instead.
        """
        spec = self.model.latent()
        (length,), index = spec.shape, prompt_index.to(spec.device)
        spans, exact = self.sampler.spans(length), self.sampler.order != "confidence"
        uniform = rng.child("codes").uniform(id, (len(spans), length)).to(spec.device)
        noise = _gumbel(rng.child("places").uniform(id, (len(spans), length))).to(spec.device)
        tokens, path = torch.full((len(id), length), MASKED, device=spec.device), []
        for k, (start, stop) in enumerate(spans):
            codes = self.codes(tokens, condition, index)
            drawn, late = codes.sample(uniform[:, k]), (k + 1) / len(spans)
            worth = self._worth(codes, drawn, noise[:, k], late).masked_fill(tokens != MASKED, -torch.inf)
            places = worth.argsort(1, descending=True)[:, : stop - start]
            chosen = drawn.gather(1, places)
            if record and exact:
                path.append(self._step(tokens, codes, places, chosen))
            tokens = tokens.scatter(1, places, chosen)
        if not record:
            return Sampled(tokens, None)
        if not exact:
            path = self._hide(tokens, condition, index, rng.child("hidden"), group)
        return Sampled(tokens, _trajectory(path, id))

    def _hide(
        self,
        tokens: Int[Tensor, "batch tokens"],
        condition: Condition,
        index: Int[Tensor, " batch"],
        rng: Rng,
        group: Int[Tensor, " batch"],
    ) -> list[Step]:
        """Return the finished samples with ever more hidden, the same places in all of a group, as decisions."""
        counts = self.sampler.hidden(tokens.shape[1])
        order = rng.uniform(group, (len(counts), tokens.shape[1])).argsort(-1).to(tokens.device)
        found = []
        for i, count in enumerate(counts):
            places = order[:, i, :count]
            seen = tokens.scatter(1, places, MASKED)
            found.append(self._step(seen, self.codes(seen, condition, index), places, tokens.gather(1, places)))
        return found

    def _worth(
        self,
        codes: Categorical,
        drawn: Int[Tensor, "batch tokens"],
        noise: Float[Tensor, "batch tokens"],
        late: float,
    ) -> Float[Tensor, "batch tokens"]:
        """Return by what places are ordered, the best first."""
        if self.sampler.order == "confidence":
            return codes.log_prob(drawn) + self.sampler.order_temperature * (1 - late) * noise
        return self.scores(codes) + noise

    def scores(self, codes: Categorical) -> Float[Tensor, "batch tokens"]:
        """Return the logits of places: minus the entropy of their codes, or nothing where chance alone decides."""
        if self.sampler.order == "plackett_luce":
            return -codes.entropy() / self.sampler.order_temperature
        return torch.zeros_like(codes.logits[..., 0])

    def _step(
        self,
        tokens: Int[Tensor, "batch tokens"],
        codes: Categorical,
        places: Int[Tensor, "batch places"],
        chosen: Int[Tensor, "batch places"],
    ) -> Step:
        """Return what one evaluation decided: each place among those that were open then, one after another."""
        taken = torch.nn.functional.one_hot(places, tokens.shape[1]).cumsum(1)
        before = torch.cat([torch.zeros_like(taken[:, :1]), taken[:, :-1]], 1)
        open = (tokens == MASKED)[:, None] & (before == 0)
        row = torch.arange(len(tokens), device=tokens.device)[:, None].expand(places.shape)
        return Step(tokens, torch.stack([places, chosen], -1), self._placement(codes, row, places, open))

    def _placement(
        self,
        codes: Categorical,
        evaluation: Int[Tensor, "*decisions"],
        place: Int[Tensor, "*decisions"],
        open: Bool[Tensor, "*decisions tokens"],
    ) -> Placement:
        """Return the distribution of each decision, of an evaluation's codes: a place of those open, and its code."""
        evaluation = sent(evaluation, place.device)
        scores = self.scores(codes)[evaluation].masked_fill(~open, -torch.inf)
        return Placement(Categorical(scores), Categorical(codes.logits[evaluation, place]))

    def codes(
        self, tokens: Int[Tensor, "batch tokens"], condition: Condition, index: Int[Tensor, " batch"]
    ) -> Categorical:
        """Return the distribution of the code at each place: one network evaluation a sample, or two with guidance."""
        logits = guided(self.model.fill, self.sampler.guidance, (tokens,), condition, index)
        return Categorical(logits / self.sampler.temperature)

    def distribution(self, decisions: Decisions, condition: Condition) -> Placement:
        """Return the distribution of each decision under the present weights.

        Which places were open is read from what was recorded.
        """
        codes = self.codes(decisions.state, condition, decisions.prompt_index)
        open = decisions.old.place.logits > -torch.inf
        return self._placement(codes, decisions.place, decisions.choice[:, 0], open)

    def pack(self, rollout: Rollout, rows: Int[Tensor, " rows"], size: int) -> Iterator[Decisions]:
        """Yield the decisions that count of the samples `rows`, step by step, `size` evaluations at a time."""
        path = rollout.path
        states = cast(Partly, path.states)
        position, column = path.mask[rows].nonzero(as_tuple=True)
        evaluation = states.evaluation[rows[position], column]
        names, place = (evaluation * len(rows) + position).unique(return_inverse=True)
        for part in torch.arange(len(names)).split(size) if len(names) else ():
            mine = ((place >= part[0]) & (place <= part[-1])).nonzero()[:, 0]
            row, each = rows[position[mine]], column[mine]
            choice, length, old = at((path.choices, path.length, path.old), row, each)
            sample, step = rows[names[part] % len(rows)], names[part] // len(rows)
            state = at(states.tokens, sample, step)
            index = sent(rollout.prompt_index[sample], state.device)
            yield Decisions(state, index, place[mine] - part[0], choice, length, old, row, each)

    def elements(self) -> int:
        """Return 1: a place and its code are one choice."""
        return 1


def _trajectory(path: Sequence[Step], id: Int[Tensor, " batch"]) -> Trajectory:
    """Return the decisions of all steps, side by side."""
    counts = torch.tensor([step.choices.shape[1] for step in path])
    evaluation = torch.arange(len(path)).repeat_interleave(counts).expand(len(id), -1)
    places, codes = (
        Categorical(torch.cat([part.logits for part in parts], 1))
        for parts in zip(*((step.drawn_from.place, step.drawn_from.code) for step in path), strict=True)
    )
    choices = torch.cat([step.choices for step in path], 1)
    states = Partly(torch.stack([step.tokens for step in path], 1), evaluation, choices)
    everything = torch.ones(evaluation.shape)
    node = id[:, None].expand(evaluation.shape)
    return Trajectory(states, everything, Placement(places, codes), everything.bool(), node)


def _gumbel(uniform: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Return Gumbel noise: scores with it, in order, are ordered as Plackett and Luce draw."""
    return -(-uniform.clamp(min=1e-20).log()).log()
