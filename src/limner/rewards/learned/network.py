"""What a learned reward is made of: members, each a network and how its ties come about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from limner.rewards.learned.design import Design
from limner.rewards.learned.frozen import Frozen
from limner.rewards.learned.linear import LinearHead
from limner.rewards.learned.patches import Patches
from limner.rewards.learned.small import Small, eye_for_pixels, in_size
from limner.rewards.learned.vlm import Vlm


class Network(Protocol):
    """A network that looks at frames and at texts by themselves, and then at both; a clip has `frames` of them."""

    def see(self, pixels: Float[Tensor, "n 3 height width"]) -> Float[Tensor, "n *seen"]: ...

    def read(self, texts: Sequence[str]) -> Float[Tensor, "n read"]: ...

    def judge(
        self, seen: Float[Tensor, "shown *seen"], read: Float[Tensor, "shown *read"], frames: int
    ) -> Float[Tensor, "shown outputs"]: ...


COMMON = -1
"""Nobody: the taste that all people share."""


class Worth(NamedTuple):
    """What pictures are worth by each question, in nats, and the standard deviation of that."""

    mean: Float[Tensor, "n questions"]
    std: Float[Tensor, "n questions"]


class Said(NamedTuple):
    """What a member says of pictures: their worth to all, and what more they are to people who differ in each way."""

    worth: Worth
    lean: Float[Tensor, "n questions tastes"]


def _over_frames(said: Said, frames: int) -> Said:
    """Return what is said of clips: the mean over the frames of each, which follow one another."""
    worth = Worth(*(column.unflatten(0, (-1, frames)).mean(1) for column in said.worth))
    return Said(worth, said.lean.unflatten(0, (-1, frames)).mean(1))


class Member(nn.Module):
    """One network of a learned reward, and how each person differs: w_p = w + <taste_p, lean>, of low rank.

    Source: LoRe, arXiv:2504.14439, whose people weigh shared rewards. Deviation: weights may be negative, and those of
    nobody in particular are 0, so that what all share stands by itself.
    """

    def __init__(self, design: Design, words: Sequence[str], questions: int, people: int) -> None:
        super().__init__()
        outputs = questions * (1 + design.gaussian + design.tastes)
        self.questions, self.tastes = questions, design.tastes
        self.network: Small | Patches | Frozen | LinearHead | Vlm
        match design.kind:
            case "small":
                eye = eye_for_pixels(design.width)
                self.network = Small(words, eye, design.edge, design.width, outputs, design.motion)
            case "patches":
                self.network = Patches(words, design.edge, design.width, outputs, design.motion)
            case "frozen":
                self.network = Frozen(design.width, outputs, design.network, design.motion)
            case "linear":
                self.network = LinearHead(design.edge, outputs, design.network)
            case "vlm":
                self.network = Vlm(design.network, design.edge, design.rank, outputs)
        self.tie = nn.Parameter(torch.zeros(questions))
        self.taste = nn.Parameter(torch.randn(people, design.tastes) / 2) if design.tastes else None

    def say(self, seen: Float[Tensor, "shown *seen"], read: Float[Tensor, "n *read"], frames: int = 1) -> Said:
        """Return what pictures, or clips, are worth: the mean over their frames, which follow one another in `seen`.

        A network that is not Gaussian is certain of it.
        """
        said = self.network.judge(seen, read.repeat_interleave(frames, 0), frames)
        own = said.shape[1] - self.questions * self.tastes
        lean = said[:, own:].reshape(len(said), self.questions, self.tastes)
        mean, spread = said[:, : self.questions], said[:, self.questions : own]
        std = spread.clamp(-6, 3).exp() if spread.shape[1] else torch.zeros_like(mean)
        return _over_frames(Said(Worth(mean, std), lean), frames)

    def weights(self, people: Int[Tensor, " n"]) -> Float[Tensor, "n tastes"]:
        """Return how people differ, 0 of `COMMON`."""
        if self.taste is None:
            return self.tie.new_zeros(len(people), 0)
        return torch.where(people[:, None] == COMMON, 0.0, self.taste[people.clamp(min=0)])

    def worth(self, person: int, said: Said) -> Worth:
        """Return what pictures are worth to a person."""
        (mean, std), lean = said
        weights = self.weights(torch.tensor([person], device=self.tie.device))
        return Worth(mean + (lean * weights[:, None]).sum(2), std)


class Ensemble(nn.Module):
    """All members; what they say together."""

    def __init__(self, design: Design, words: Sequence[str], questions: int, people: int = 0) -> None:
        super().__init__()
        self.edge = design.edge
        self.members = nn.ModuleList(Member(design, words, questions, people) for _ in range(design.members))

    def tie(self, question: int) -> float:
        """Return how readily a question is answered with a tie: the mean over members of the parameter."""
        ties = [tensor[question] for name, tensor in self.state_dict().items() if name.endswith(".tie")]
        return float(torch.stack(ties).mean())

    def see(self, pixels: Float[Tensor, "n 3 height width"]) -> list[Float[Tensor, "n *seen"]]:
        """Return what each member sees, in the size that it learned from; frozen networks are one, and look once."""
        first, pixels = self.member(0).network, in_size(pixels, self.edge)
        if not isinstance(first, Small):
            return [first.see(pixels)] * len(self.members)
        return [self.member(i).network.see(pixels) for i in range(len(self.members))]

    def say(self, seen: Sequence[Float[Tensor, "shown *seen"]], texts: Sequence[str], frames: int = 1) -> list[Said]:
        """Return what each member says of what it has seen: of pictures, or of clips of so many frames."""
        unique = list(dict.fromkeys(texts))
        place = torch.tensor([unique.index(text) for text in texts])
        told = [self.member(i).network.read(unique)[place] for i in range(len(seen))]
        return [self.member(i).say(sight, told[i], frames) for i, sight in enumerate(seen)]

    def member(self, number: int) -> Member:
        """Return one member."""
        member = self.members[number]
        assert isinstance(member, Member)
        return member

    def each(self, said: Sequence[Said], person: int = COMMON) -> list[Worth]:
        """Return what pictures are worth to a person, by each member."""
        return [self.member(i).worth(person, each) for i, each in enumerate(said)]

    def together(self, said: Sequence[Said], person: int = COMMON) -> Worth:
        """Return the mean over members, and the spread: sqrt(their variance + the mean of their own variances)."""
        means, stds = (torch.stack(columns) for columns in zip(*self.each(said, person), strict=True))
        variance = means.var(0, correction=0) + stds.square().mean(0)
        return Worth(means.mean(0), (variance + 1e-12).sqrt())
