"""What a learned reward is made of: members, each a network and how its ties come about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple, Protocol, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limner.core.settings import Count, Range, settings
from limner.objectives.choice import Ties
from limner.rewards.learned.frozen import Frozen
from limner.rewards.learned.small import Small

Kind: TypeAlias = Literal["small", "frozen"]


class Network(Protocol):
    """A network that looks at pictures and at texts by themselves, and then at both."""

    def see(self, pixels: Float[Tensor, "n 3 height width"]) -> Float[Tensor, "n *seen"]: ...

    def read(self, texts: Sequence[str]) -> Float[Tensor, "n read"]: ...

    def judge(self, seen: Float[Tensor, "n *seen"], read: Float[Tensor, "n read"]) -> Float[Tensor, "n outputs"]: ...


@settings
class Design:
    """How a learned reward is built: `small` is a network of its own, `frozen` a head on frozen features."""

    kind: Kind = "small"
    edge: Count = 64
    """Pixels a side at which `small` sees a picture."""
    width: Annotated[int, Range(least=16)] = 64
    """Channels of `small`, a multiple of 16; of `frozen`, of its hidden layer."""
    members: Count = 3
    """Networks that are trained apart: how much they differ is how unsure the reward is."""
    gaussian: bool = False
    """Whether each worth has a spread of its own, as HPSv3's have."""
    ties: Ties = "davidson"
    """How ties come about: davidson, rao_kupper (VideoReward's), or bradley_terry: each is half a vote for both."""


class Worth(NamedTuple):
    """What pictures are worth by each question, in nats, and the standard deviation of that."""

    mean: Float[Tensor, "n questions"]
    std: Float[Tensor, "n questions"]


class Member(nn.Module):
    """One network of a learned reward."""

    def __init__(self, design: Design, words: Sequence[str], questions: int) -> None:
        super().__init__()
        outputs = questions * (2 if design.gaussian else 1)
        self.questions = questions
        self.network: Small | Frozen
        if design.kind == "small":
            self.network = Small(words, design.edge, design.width, outputs)
        else:
            self.network = Frozen(design.width, outputs)
        self.tie = nn.Parameter(torch.zeros(questions))

    def worth(self, seen: Float[Tensor, "n *seen"], read: Float[Tensor, "n read"]) -> Worth:
        """Return what pictures are worth; a network that is not Gaussian is certain of it."""
        said = self.network.judge(seen, read)
        mean, spread = said[:, : self.questions], said[:, self.questions :]
        return Worth(mean, spread.clamp(-6, 3).exp() if spread.shape[1] else torch.zeros_like(mean))


class Ensemble(nn.Module):
    """All members; what they say together."""

    def __init__(self, design: Design, words: Sequence[str], questions: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(Member(design, words, questions) for _ in range(design.members))

    def tie(self, question: int) -> float:
        """Return how readily a question is answered with a tie: the mean over members of the parameter."""
        ties = [tensor[question] for name, tensor in self.state_dict().items() if name.endswith(".tie")]
        return float(torch.stack(ties).mean())

    def each(self, pixels: Float[Tensor, "n 3 height width"], texts: Sequence[str]) -> list[Worth]:
        """Return what each member says."""
        unique = list(dict.fromkeys(texts))
        place = torch.tensor([unique.index(text) for text in texts])
        said = []
        for member in self.members:
            assert isinstance(member, Member)
            said.append(member.worth(member.network.see(pixels), member.network.read(unique)[place]))
        return said

    def forward(self, pixels: Float[Tensor, "n 3 height width"], texts: Sequence[str]) -> Worth:
        """Return the mean over members, and the spread: sqrt(their variance + the mean of their own variances)."""
        means, stds = (torch.stack(columns) for columns in zip(*self.each(pixels, texts), strict=True))
        variance = means.var(0, correction=0) + stds.square().mean(0)
        return Worth(means.mean(0), (variance + 1e-12).sqrt())
