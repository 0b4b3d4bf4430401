"""Writing as a policy: what was written so far is the state, the next token the choice.

`TokenSampler` says how tokens are drawn, `Autoregressive` draws them with a model. While sampling a token takes an
evaluation of the network, which remembers the ones before (a key-value cache); one evaluation scores all tokens of a
sample again.

What is scored is what was drawn from: with guidance and temperature, and among the tokens that top-k and top-p left.
These are kept as they were: other weights would leave others, and a token that was drawn might have no probability.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from limner.core.errors import UserError
from limner.core.protocols import Algorithm, Generator
from limner.core.rng import Rng
from limner.core.settings import Natural, Positive, Range, settings
from limner.core.transfer import sent
from limner.core.tree import at, select
from limner.core.types import Condition, Decisions, Rollout, Sampled, Trajectory
from limner.objectives.categorical import Categorical
from limner.policies.denoising import Guidance
from limner.policies.guided import guided, led, with_empty


@runtime_checkable
class TokenModel(Generator, Protocol):
    """A generator that writes its sample token by token, in order; `latent().shape` is (tokens,)."""

    def logits(
        self, tokens: Int[Tensor, "batch tokens"], condition: Condition, prompt_index: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch tokens codes"]:
        """Return the logits of each token of whole samples given those before it, by one evaluation of a network."""
        ...

    def begin(
        self, condition: Condition, prompt_index: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch codes"], Any]:
        """Return the logits of the first token, and what `step` goes on from."""
        ...

    def step(self, token: Int[Tensor, " batch"], state: Any) -> tuple[Float[Tensor, "batch codes"], Any]:
        """Return the logits of the token after `token`, and what the next step goes on from."""
        ...


@runtime_checkable
class Coded(Protocol):
    """A model of tokens that knows what its codes stand for."""

    def codebook(self) -> Float[Tensor, "codes width"]:
        """Return the vector of each code, from which a tokenizer makes pictures."""
        ...


def require_choices(algorithm: Algorithm, kind: str) -> None:
    """Raise UserError for an algorithm that choices among codes cannot serve: they have no std, mean or branches."""
    needs, name = algorithm.needs, type(algorithm).__name__
    if needs.tree:
        raise UserError(f"{name} compares the branches of a tree, which {kind} do not have: take algorithm.scale group")
    if needs.spread:
        raise UserError(f"{name} weighs decisions by their std, which {kind} do not have: set noise_weight to false")
    if needs.clip is not None and needs.clip.of == "distance":
        raise UserError(f"{name} clips a distance to a mean, which {kind} do not have: take algorithm.ratio log_ratio")


@settings
class TokenSampler:
    """How a sample's tokens are drawn: from softmax(l / temperature) over those that top-k and top-p leave.

        l = u + guidance (c - u),    c: logits given the prompt, u: given the negative or empty one

    Source: LlamaGen, arXiv:2406.06525, section 2.3 (guidance of tokens). To score what was drawn from again among the
    tokens that were left is DeepSeek-V3.2's "keep sampling mask", arXiv:2512.02556, section 3.1.
    """

    temperature: Positive = 1.0
    """Divides logits: below 1 likely tokens become likelier."""
    top_k: Natural = 0
    """Only so many of the likeliest tokens may be drawn; 0: all."""
    top_p: Annotated[float, Range(above=0, most=1)] = 1.0
    """Only the fewest likeliest tokens that have so much probability together may be drawn."""
    guidance: Guidance = 1.0
    """The scale of classifier-free guidance; 1: none."""
    scored: Literal["drawn", "unguided"] = "drawn"
    """What is learned on: what was drawn from, or c alone though samples are guided, as T2I-R1 and SimpleAR do, whose
    ratio is then that of a policy which drew nothing."""

    def policy(self, model: TokenModel) -> Autoregressive:
        """Return the policy that draws from `model` so."""
        return Autoregressive(model, self)

    def require(self, algorithm: Algorithm, group_size: int) -> None:
        """Raise UserError for an algorithm that asks for a tree, or for what Gaussian noise alone has."""
        require_choices(algorithm, "tokens")

    def plain(self, steps: int | None = None, guidance: float | None = None) -> TokenSampler:
        """Return the same with another guidance; the number of tokens is the model's."""
        chosen = self.guidance if guidance is None else guidance
        return TokenSampler(self.temperature, self.top_k, self.top_p, chosen, self.scored)

    def described(self) -> Mapping[str, str]:
        """Return what a summary says of it, by title."""
        some = {"Top-k": self.top_k, "Top-p": self.top_p if self.top_p < 1 else 0}
        kept = {title: f"{value:g}" for title, value in some.items() if value}
        return {"Temperature": f"{self.temperature:g}", **kept, "Guidance scale": f"{self.guidance:g}"}

    def call(self) -> Mapping[str, Any]:
        """Return the arguments that ask `generate` of transformers for the same."""
        return {
            "do_sample": True,
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "guidance_scale": self.guidance,
        }

    @property
    def guidance_of_updates(self) -> float:
        """The scale by which decisions are scored."""
        return self.guidance if self.scored == "drawn" else 1.0

    @property
    def leaves_out(self) -> bool:
        """Whether some tokens may not be drawn."""
        return self.top_k > 0 or self.top_p < 1

    def left(self, logits: Float[Tensor, "*batch codes"]) -> Bool[Tensor, "*batch codes"]:
        """Return which tokens may be drawn: of the top-k likeliest the fewest with probability top-p among them."""
        ranked, order = torch.sort(logits, dim=-1, descending=True, stable=True)
        rank = torch.arange(logits.shape[-1], device=logits.device)
        among = rank < self.top_k if self.top_k else torch.ones_like(rank, dtype=torch.bool)
        share = ranked.masked_fill(~among, -torch.inf).softmax(-1)
        kept = among & (share.cumsum(-1) - share < self.top_p)
        return torch.zeros_like(kept).scatter(-1, order, kept)


@dataclass(frozen=True)
class Written:
    """Whole samples: all that is needed to score each of their tokens."""

    tokens: Int[Tensor, "batch tokens"]
    vectors: Float[Tensor, "batch tokens width"] | None = None
    """What the tokens stand for; None where the model does not say (`Coded`)."""

    @property
    def choices(self) -> Int[Tensor, "batch tokens"]:
        """The tokens themselves."""
        return self.tokens

    def features(self) -> tuple[Float[Tensor, "batch steps tokens"]]:
        """Return for each decision the tokens before it, and -1 for those to come."""
        length = self.tokens.shape[1]
        before = torch.ones(length, length, dtype=torch.bool, device=self.tokens.device).tril(-1)
        return (torch.where(before, self.tokens[:, None], -1).float(),)


@dataclass(frozen=True)
class Autoregressive:
    """A model of tokens and how they are drawn."""

    model: TokenModel
    sampler: TokenSampler

    def at(self, iteration: int) -> Autoregressive:
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
        """Draw the tokens of each id one after another, and record, if asked, what each was drawn from."""
        spec = self.model.latent()
        (length,), index = spec.shape, prompt_index.to(spec.device)
        uniform = rng.child("tokens").uniform(id, (length,)).to(spec.device)
        both = self.sampler.guidance != 1
        logits, state = self.model.begin(condition, with_empty(condition, index) if both else index)
        tokens, scored = [], []
        for i in range(length):
            drawn, told = self._next(logits)
            tokens.append(drawn.sample(uniform[:, i]))
            if record:
                scored.append(told.logits)
            if i + 1 < length:
                logits, state = self.model.step(tokens[-1].repeat(2 if both else 1), state)
        chosen = torch.stack(tokens, 1)
        if not record:
            return Sampled(chosen, None)
        everything, node = torch.ones(chosen.shape), id[:, None].expand(chosen.shape)
        old = Categorical(torch.stack(scored, 1))
        written = Written(chosen, self.model.codebook()[chosen] if isinstance(self.model, Coded) else None)
        return Sampled(chosen, Trajectory(written, everything, old, everything.bool(), node))

    def _next(self, logits: Float[Tensor, "rows codes"]) -> tuple[Categorical, Categorical]:
        """Return what a token is drawn from, and what is scored; where guided, `logits` are with and without prompt."""
        how = self.sampler
        alone, led_away = (logits, logits) if how.guidance == 1 else (logits.chunk(2)[0], led(logits, how.guidance))
        drawn = led_away / how.temperature
        told = drawn if how.scored == "drawn" else alone / how.temperature
        if how.leaves_out:
            out = ~how.left(drawn)
            drawn, told = drawn.masked_fill(out, -torch.inf), told.masked_fill(out, -torch.inf)
        return Categorical(drawn), Categorical(told)

    def distribution(self, decisions: Decisions, condition: Condition) -> Categorical:
        """Return the distribution of each token under the present weights: one evaluation a sample, two if guided.

        Which tokens were left to be drawn is read from what was recorded.
        """
        scale = self.sampler.guidance_of_updates
        logits = guided(self.model.logits, scale, (decisions.state.tokens,), condition, decisions.prompt_index)
        told = at(logits, decisions.place, decisions.column) / self.sampler.temperature
        if self.sampler.leaves_out:
            told = told.masked_fill(decisions.old.logits == -torch.inf, -torch.inf)
        return Categorical(told)

    def pack(self, rollout: Rollout, rows: Int[Tensor, " rows"], size: int) -> Iterator[Decisions]:
        """Yield the tokens that count of the samples `rows`, `size` samples at a time, each evaluated once."""
        path = rollout.path
        for part in rows[path.mask[rows].any(1)].split(size):
            place, column = path.mask[part].nonzero(as_tuple=True)
            row = part[place]
            choice, length, old = at((path.choices, path.length, path.old), row, column)
            index = sent(rollout.prompt_index[part], choice.device)
            yield Decisions(select(path.states, part), index, place, choice, length, old, row, column)

    def elements(self) -> int:
        """Return 1: a token is one choice."""
        return 1
