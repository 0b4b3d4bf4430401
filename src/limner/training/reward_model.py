"""Train a reward on what people said: pairs with their ties, rankings and ratings, all at once.

The members of an ensemble are trained apart. A step takes some prompts, looks at each of their pictures once, and
learns from all that was said of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from limner.core.errors import UserError
from limner.core.settings import Count, Natural, NotNegative, Positive, Share, settings
from limner.core.tree import concatenate
from limner.objectives.choice import choice_loss, contrast_loss, ranking_loss, rating_loss, uncertain_choice_loss
from limner.rewards.learned.design import Design
from limner.rewards.learned.frozen import Frozen
from limner.rewards.learned.linear import LinearHead
from limner.rewards.learned.network import Ensemble, Member, Network, Said, Worth
from limner.rewards.learned.patches import Patches
from limner.rewards.learned.small import Small, vocabulary
from limner.rewards.learned.vlm import Vlm
from limner.training.judgements import Judgements, voters
from limner.training.posterior import infer

LOT = 64
"""Pictures that are seen at once where nothing is learned."""

Log = Callable[[str], None]


@settings
class RewardTraining:
    """How a reward is trained; what its networks are like stands in `design`.

    A `linear` one is computed from all votes at once (`posterior.py`), so that `epochs` to `anchor` do not count there.
    """

    design: Design = Design()
    frames: Count = 4
    """Of a clip, at even distances, that are learned from.

    A reward is asked about all of them, and, if it goes by motion too, about as many as it learned from.
    """
    epochs: Count = 40
    prompts: Count = 8
    """Prompts of a step."""
    lr: Positive = 2e-3
    weight_decay: NotNegative = 0.01
    contrast: NotNegative = 0.5
    """Weight of telling a preferred picture's own prompt from others of the step: PickScore's in-batch negatives."""
    negatives: Count = 3
    """How many others."""
    anchor: NotNegative = 0.01
    """Weight of the square of worths: choices say nothing of a prompt's level, and members are to agree about it."""
    heldout: Share = 0.2
    """Share of the prompts that it is measured on; an export says the same of a prompt."""
    calibration: Share = 0.15
    """Share of the prompts that its scale is fitted on; 0: it stays as it was learned, as a `linear` one's may."""
    broken: Literal["refuse", "skip"] = "refuse"
    """Whether a row or file that cannot be read stops it, or is left out and told of."""
    seed: Natural = 0


class Features(NamedTuple):
    """What networks see of all pictures, and read of all texts, as far as they are frozen there; else None."""

    seen: Float[Tensor, "pictures frames *seen"] | None
    """In half precision."""
    read: Float[Tensor, "texts textwidth"] | None


LEARNED = Features(None, None)
"""Nothing is frozen."""


class Batch(NamedTuple):
    """Some prompts, their pictures, and what was said of these; places count within the batch."""

    texts: list[int]
    pictures: Int[Tensor, " pictures"]
    own: Int[Tensor, " pictures"]
    """Of each picture, the place of its prompt."""
    pairs: Int[Tensor, "pairs 2"]
    votes: Float[Tensor, "pairs questions 3"]
    who: Int[Tensor, " pairs"]
    """Who was asked, `COMMON` where the networks know no such person."""
    rankings: Int[Tensor, "rankings places"]
    ranked: Bool[Tensor, "rankings places"]
    rated: Int[Tensor, " ratings"]
    liked: Float[Tensor, " ratings"]


class Trained(NamedTuple):
    """Networks, the words and people that they know, and what of all pictures and texts was frozen."""

    ensemble: Ensemble
    words: tuple[str, ...]
    people: tuple[str, ...]
    bank: Features


def train(of: Judgements, how: RewardTraining, log: Log, bank: Features | None = None) -> Trained:
    """Return the trained networks; a `bank` saves looking.

    Raises UserError if people are to differ, and votes do not say whose they are.
    """
    there = sorted(set(of.text[torch.cat([of.pairs.flatten(), of.rankings.flatten(), of.rated])].tolist()))
    words = vocabulary([of.texts[i] for i in there]) if how.design.kind in ("small", "patches") else ()
    torch.manual_seed(how.seed)
    people = tuple(sorted({each[0] for each in of.people if len(each) == 1})) if how.design.tastes else ()
    if how.design.tastes and len(people) < 2:
        raise UserError("--design.tastes: no two people to tell apart; each pair needs one name in its `annotators`")
    ensemble = Ensemble(how.design, words, len(of.questions), len(people))
    members = [ensemble.member(number) for number in range(how.design.members)]
    bank = bank or _bank(members[0].network, of)
    for member in members:
        _standardise(member, of, there, bank)
    if how.design.kind == "linear":
        assert bank.seen is not None
        infer(members, of, bank.seen.float(), how.design.ties, torch.Generator().manual_seed(how.seed))
    else:
        for number, member in enumerate(members):
            _train(member, of, there, voters(of, people), how, bank, number, log)
    return Trained(ensemble.eval().requires_grad_(False), words, people, bank)


class Lead(NamedTuple):
    """By how much the first of each pair leads, and the variance of that by the members' spread."""

    mean: Float[Tensor, " pairs"]
    variance: Float[Tensor, " pairs"]


@dataclass(frozen=True)
class Worths:
    """What each picture is worth, before any calibration, to each of the `people` that networks know."""

    people: Sequence[str]
    to: Callable[[int], Worth]
    """What pictures are worth to one of these, or to `COMMON`, and how unsure that is."""

    def leads(self, on: Judgements, question: int) -> Lead:
        """Return by how much the first of each pair leads, to whoever was asked."""
        who = voters(on, self.people)
        mean, variance = torch.zeros(2, len(on.pairs), dtype=torch.float64).unbind()
        for person in who.unique().tolist():
            rows = who == person
            value, std = (column[:, question].double() for column in self.to(person))
            first, second = on.pairs[rows].unbind(1)
            mean[rows] = value[first] - value[second]
            variance[rows] = std[first].square() + std[second].square()
        return Lead(mean, variance)


def worths(ensemble: Ensemble, people: Sequence[str], of: Judgements, bank: Features = LEARNED) -> Worths:
    """Return what each picture is worth; a `bank` saves looking."""
    texts, frames = [of.texts[i] for i in of.text.tolist()], of.pictures.shape[1]
    lots = []
    with torch.no_grad():
        for start in range(0, len(texts), LOT):
            here = slice(start, start + LOT)
            if bank.seen is None:
                seen = ensemble.see(_pixels(of.pictures[here]))
            else:
                seen = [bank.seen[here].flatten(0, 1).float()] * len(ensemble.members)
            lots.append(ensemble.say(seen, texts[here], frames))
    return Worths(people, partial(ensemble.together, [concatenate(each) for each in zip(*lots, strict=True)]))


def _standardise(member: Member, of: Judgements, there: Sequence[int], bank: Features) -> None:
    """Bring what is frozen to a common scale: that of the pictures of the texts that were judged."""
    if bank.seen is not None and isinstance(member.network, Patches | Frozen | LinearHead):
        member.network.standardise(bank.seen[torch.isin(of.text, torch.tensor(there))].flatten(0, 1).float())


def _train(
    member: Member,
    of: Judgements,
    there: Sequence[int],
    who: Int[Tensor, " pairs"],
    how: RewardTraining,
    bank: Features,
    number: int,
    log: Log,
) -> None:
    generator = torch.Generator().manual_seed(how.seed * 1000 + number)
    by_text = _by_text(of)
    per_epoch = -(-len(there) // how.prompts)
    num_steps = how.epochs * per_epoch
    optimizer = torch.optim.AdamW(member.parameters(), lr=how.lr, weight_decay=how.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, num_steps))
    member.train()
    total = torch.zeros(())
    for step in range(num_steps):
        if step % per_epoch == 0:
            lots = torch.randperm(len(there), generator=generator).split(how.prompts)
        batch = _batch(of, [there[i] for i in lots[step % per_epoch].tolist()], by_text, who)
        loss = _loss(member, of, batch, how, generator, bank)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(member.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total = total + loss.detach()
        if (step + 1) % max(1, num_steps // 8) == 0:
            log(f"network {number + 1}, step {step + 1} of {num_steps}: loss {total / max(1, num_steps // 8):.3f}")
            total = torch.zeros(())


def _rate(step: int, steps: int) -> float:
    """Return the share of the learning rate at a step: it rises over a tenth of them, and falls as a cosine."""
    return min(10 * (step + 1) / steps, 0.5 + 0.5 * math.cos(math.pi * step / steps))


def _loss(
    member: Member, of: Judgements, batch: Batch, how: RewardTraining, generator: torch.Generator, bank: Features
) -> Float[Tensor, ""]:
    """Return the mean loss of what was said, with the weights of contrast and anchor."""
    if bank.seen is None:
        seen = member.network.see(_pixels(of.pictures[batch.pictures]))
    else:
        seen = bank.seen[batch.pictures].flatten(0, 1).float()
    if bank.read is None:
        read = member.network.read([of.texts[i] for i in batch.texts])
    else:
        read = bank.read[torch.tensor(batch.texts)]
    said = _of_each(member, of, seen, read[batch.own])
    worth = said.worth
    losses = [_said(member, how.design, said, batch, question) for question in range(len(of.questions))]
    losses.append(ranking_loss(worth.mean[:, 0][batch.rankings], batch.ranked))
    losses.append(rating_loss(worth.mean[batch.rated, 0], batch.liked))
    count = (batch.votes.sum((1, 2)) > 0).sum() + len(batch.rankings) + len(batch.rated)
    loss = torch.cat(losses).sum() / count.clamp(min=1)
    loss = loss + how.anchor * worth.mean.square().mean()
    if member.taste is not None:
        loss = loss + how.anchor * (said.lean.square().mean() + member.taste.square().mean())
    if how.contrast > 0 and len(batch.texts) > 1:
        others = [worth.mean[:, 0]]
        for _ in range(how.negatives):
            far = torch.randint(1, len(batch.texts), (len(batch.own),), generator=generator)
            others.append(_of_each(member, of, seen, read[(batch.own + far) % len(batch.texts)]).worth.mean[:, 0])
        good = _good(batch)
        if len(good):
            loss = loss + how.contrast * contrast_loss(torch.stack(others, 1)[good]).mean()
    return loss


def _pixels(pictures: UInt8[Tensor, "n frames 3 edge edge"]) -> Float[Tensor, "shown 3 edge edge"]:
    """Return frames in [0, 1], one after another."""
    return pictures.flatten(0, 1).float() / 255


def _of_each(
    member: Member, of: Judgements, seen: Float[Tensor, "shown *seen"], read: Float[Tensor, "pictures *read"]
) -> Said:
    """Return what a member says of pictures, or of clips, whose frames `seen` are."""
    return member.say(seen, read, of.pictures.shape[1])


def _said(member: Member, design: Design, said: Said, batch: Batch, question: int) -> Float[Tensor, " pairs"]:
    """Return the loss of the votes on one question, each pair's share of them 1."""
    worth, lean = said
    first, second = batch.pairs.unbind(1)
    votes = batch.votes[:, question]
    votes = votes / votes.sum(1, keepdim=True).clamp(min=1e-12)
    lead = worth.mean[first, question] - worth.mean[second, question]
    lead = lead + ((lean[first, question] - lean[second, question]) * member.weights(batch.who)).sum(1)
    if not design.gaussian:
        return choice_loss(lead, votes, design.ties, member.tie[question])
    variance = worth.std[first, question] ** 2 + worth.std[second, question] ** 2
    return uncertain_choice_loss(lead, variance, votes, design.ties, member.tie[question])


def _good(batch: Batch) -> Int[Tensor, " pictures"]:
    """Return the pictures that were preferred, ranked first, or liked."""
    votes = batch.votes[:, 0]
    ahead = votes[:, 0] - votes[:, 2]
    chosen = [batch.pairs[ahead > 0, 0], batch.pairs[ahead < 0, 1]]
    return torch.cat([*chosen, batch.rankings[:, 0], batch.rated[batch.liked > 0.5]])


def _bank(network: Network, of: Judgements) -> Features:
    """Return what is frozen: the features of pictures but where a network learns to see, of texts where it reads so."""
    if isinstance(network, Small | Vlm):
        return LEARNED
    with torch.no_grad():
        lots = [network.see(_pixels(lot)).half() for lot in of.pictures.split(LOT)]
        seen = torch.cat(lots).unflatten(0, of.pictures.shape[:2])
        return Features(seen, network.read(list(of.texts)) if isinstance(network, Frozen) else None)


def _by_text(of: Judgements) -> list[tuple[list[int], list[int], list[int]]]:
    """Return of each text the places of its pairs, rankings and ratings."""
    found: list[tuple[list[int], list[int], list[int]]] = [([], [], []) for _ in of.texts]
    for kind, rows in enumerate((of.pairs[:, 0], of.rankings[:, 0], of.rated)):
        for place, text in enumerate(of.text[rows].tolist()):
            found[text][kind].append(place)
    return found


def _batch(
    of: Judgements,
    texts: list[int],
    by_text: list[tuple[list[int], list[int], list[int]]],
    who: Int[Tensor, " pairs"],
) -> Batch:
    pairs, rankings, ratings = (torch.tensor([p for t in texts for p in by_text[t][kind]]).long() for kind in range(3))
    both, ranks, rated = of.pairs[pairs], of.rankings[rankings], of.rated[ratings]
    pictures = torch.cat([both.flatten(), ranks[of.ranked[rankings]], rated]).unique()
    local = torch.zeros(len(of.pictures), dtype=torch.long)
    local[pictures] = torch.arange(len(pictures))
    place = torch.zeros(len(of.texts), dtype=torch.long)
    place[torch.tensor(texts)] = torch.arange(len(texts))
    return Batch(
        texts,
        pictures,
        place[of.text[pictures]],
        local[both],
        of.votes[pairs],
        who[pairs],
        local[ranks],
        of.ranked[rankings],
        local[rated],
        of.liked[ratings],
    )
