"""Toy generators for contract tests: a denoiser of any latent rank, and a token model that shares no code with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from limner.core.media import Images
from limner.core.protocols import Actors, Algorithm, Context, Policy
from limner.core.rng import Rng
from limner.core.team import ALONE, Team
from limner.core.tree import at, select
from limner.core.types import Batch, Decisions, LatentSpec, LossOutput, Prompt, Rollout, Sampled, Trajectory
from limner.data.sampler import PromptSampler
from limner.diffusion.schedule import RectifiedFlow, Schedule
from limner.diffusion.timesteps import linear_grid
from limner.learning.passes import optimizer_steps
from limner.rollout.audience import Overlap
from limner.rollout.collect import EncodeCache
from limner.training.source import Studio


class Affine(nn.Module):
    """v = a x + b t + c[word]: enough parameters to learn a mean for each prompt."""

    def __init__(self, size: int, seed: int = 0, words: int = 8) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.scale = nn.Parameter(torch.randn(size, generator=generator) * 0.3)
        self.drift = nn.Parameter(torch.randn(size, generator=generator) * 0.3)
        self.word = nn.Parameter(torch.randn(words, size, generator=generator) * 0.3)

    def forward(self, x: Tensor, t: Tensor, word: Tensor) -> Tensor:
        flat = x.reshape(x.shape[0], -1)
        return (self.scale * flat + self.drift * t[:, None] + self.word[word]).reshape(x.shape)


@dataclass(frozen=True)
class ToyDenoiser:
    """A flow model over latents of `shape`; a prompt's text is the number of its word, the empty prompt word 0."""

    network: Affine
    shape: tuple[int, ...]
    schedule: Schedule = field(default_factory=RectifiedFlow)
    prediction: str = "velocity"

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"network": self.network}

    def with_networks(self, networks: Mapping[str, nn.Module]) -> ToyDenoiser:
        return ToyDenoiser(networks["network"], self.shape, self.schedule, self.prediction)

    def encode(self, prompts: Sequence[Prompt]) -> dict[str, Tensor]:
        return {"word": torch.tensor([*(int(prompt.text) for prompt in prompts), 0], device=self.latent().device)}

    def decode(self, sample: Tensor) -> Images:
        value = sample.reshape(sample.shape[0], -1).mean(1).sigmoid()
        return Images(value[:, None, None, None].expand(-1, 3, 2, 2))

    def latent(self) -> LatentSpec:
        return LatentSpec(self.shape, self.network.scale.dtype, self.network.scale.device)

    def times(self, steps: int, grid: str = "own") -> Tensor:
        return linear_grid(steps, 1.0)

    def predict(self, x: Tensor, t: Tensor, condition: dict[str, Tensor], prompt_index: Tensor) -> Tensor:
        return self.network(x, t, select(condition, prompt_index)["word"])


def toy_denoiser(rank: int = 1, seed: int = 0, dtype: torch.dtype = torch.float32) -> ToyDenoiser:
    shape = (3, 2, 2, 1, 2)[:rank]
    network = Affine(torch.Size(shape).numel(), seed).to(dtype)
    return ToyDenoiser(network, shape)


@dataclass(frozen=True)
class Choice:
    """A categorical distribution over the next token."""

    logits: Tensor

    def log_ratio(self, old: Choice, choice: Tensor) -> Tensor:
        change = self.logits.log_softmax(-1) - old.logits.log_softmax(-1)
        return change.gather(-1, choice[..., None])[..., 0]

    def normalised_log_ratio(self, old: Choice, choice: Tensor) -> Tensor:
        return self.log_ratio(old, choice) + old.kl(self)

    def log_prob(self, choice: Tensor) -> Tensor:
        return self.logits.log_softmax(-1).gather(-1, choice[..., None])[..., 0]

    def kl(self, other: Choice) -> Tensor:
        mine, theirs = self.logits.log_softmax(-1), other.logits.log_softmax(-1)
        return (mine.exp() * (mine - theirs)).sum(-1)


@dataclass(frozen=True)
class Written:
    """Whole sequences: all that an autoregressive network needs to score each of their tokens."""

    tokens: Tensor

    @property
    def choices(self) -> Tensor:
        return self.tokens[:, 1:]

    def features(self) -> tuple[Tensor]:
        length = self.tokens.shape[-1] - 1
        seen = torch.arange(length + 1) <= torch.arange(length)[:, None]
        return (torch.where(seen, self.tokens[:, None], -1).float(),)


class Bigrams(nn.Module):
    """Logits of every next token, from the last one, the position and the word of the prompt; token 0 begins."""

    def __init__(self, length: int = 4, vocabulary: int = 4, words: int = 8, seed: int | None = None) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed or 0)
        table = torch.randn(length, vocabulary, vocabulary, generator=generator) * (seed is not None)
        word = torch.randn(words, vocabulary, generator=generator) * (seed is not None)
        self.table, self.word = nn.Parameter(table), nn.Parameter(word)

    def forward(self, tokens: Tensor, word: Tensor) -> Tensor:
        position = torch.arange(tokens.shape[1]).expand(tokens.shape)
        return self.table[position, tokens] + self.word[word][:, None]


@dataclass(frozen=True)
class ToyTokens:
    """An autoregressive policy: one evaluation of the network gives the logits of all tokens of a sample."""

    network: Bigrams

    @property
    def length(self) -> int:
        return self.network.table.shape[0]

    def at(self, iteration: int) -> ToyTokens:
        return self

    def sample(
        self, condition: Tensor, prompt_index: Tensor, group: Tensor, id: Tensor, *, rng: Rng, record: bool
    ) -> Sampled:
        u = rng.child("tokens").uniform(id, (self.length,))
        tokens = torch.zeros(len(id), 1, dtype=torch.long)
        for i in range(self.length):
            logits = self.network(tokens, condition[prompt_index])
            below = logits[:, -1].softmax(-1).cumsum(-1) < u[:, i, None]
            tokens = torch.cat([tokens, below.sum(-1, keepdim=True).clamp(max=logits.shape[-1] - 1)], 1)
        choices = tokens[:, 1:]
        everything, node = torch.ones(choices.shape), id[:, None].expand(choices.shape)
        path = Trajectory(Written(tokens), everything, Choice(logits.detach()), everything.bool(), node)
        return Sampled(choices, path if record else None)

    def distribution(self, decisions: Decisions, condition: Tensor) -> Choice:
        logits = self.network(decisions.state.tokens[:, :-1], condition[decisions.prompt_index])
        return Choice(logits[decisions.place, decisions.column])

    def pack(self, rollout: Rollout, rows: Tensor, size: int) -> Iterator[Decisions]:
        path = rollout.path
        for part in rows[path.mask[rows].any(1)].split(size):
            place, column = path.mask[part].nonzero(as_tuple=True)
            row = part[place]
            choice, length, old = at((path.choices, path.length, path.old), row, column)
            yield Decisions(
                select(path.states, part), rollout.prompt_index[part], place, choice, length, old, row, column
            )

    def elements(self) -> int:
        return 1


def losses(algorithm: Algorithm, actors: Actors[Policy], batch: Batch, context: Context) -> list[LossOutput]:
    """Return the shares of the losses of all optimizer steps, of one process."""
    return [share for step in optimizer_steps(algorithm, actors, batch, context) for share in step.shares(step.size)]


class Silent:
    """Hooks of a run that show nothing and keep the last metrics."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}

    def log(self, step: int, metrics: dict[str, float]) -> None:
        self.metrics = metrics

    def phase(self, name: str) -> None: ...

    def step(self, done: int, mean: float, std: float) -> None: ...


def toy_rollout(policy, prompts: int = 3, group_size: int = 4, seed: int = 0, record: bool = True, condition=None):
    """Draw a rollout without the rollout room."""
    count = prompts * group_size
    index = torch.arange(prompts).repeat_interleave(group_size)
    if condition is None:
        condition = policy.model.encode([Prompt(str(i + 1)) for i in range(prompts)])
    with torch.no_grad():
        drawn = policy.sample(condition, index, index, torch.arange(count), rng=Rng(("toy", seed)), record=record)
    texts = [Prompt(str(i + 1)) for i in range(prompts)]
    return Rollout(texts, index, index, condition, drawn.sample, drawn.trajectory, torch.arange(count), 0)


def toy_studio(policy, pictures=None, micro_batch: int = 100, team: Team = ALONE) -> Studio:
    """What a source may use of a toy: its policy and its prompts' encodings."""
    model = policy.model
    return Studio(
        policy=policy,
        record=False,
        prompts=[],
        sampler=PromptSampler(1, 1, 0),
        group_size=1,
        micro_batch=micro_batch,
        overlap=Overlap(),
        cache=EncodeCache(model.encode),
        encode=lambda media: media,
        pictures=pictures,
        judged=None,
        decode=model.decode,
        look=lambda media, prompts: None,
        reward=None,
        team=team,
    )
