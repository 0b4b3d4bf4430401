"""What people said, as tensors a judge is trained on: pictures once, and who was said to be better."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from limner.core.errors import UserError
from limner.core.rng import fixed_share
from limner.core.types import OVERALL
from limner.data.pairs import read_frames
from limner.data.preferences import Preference

Key: TypeAlias = tuple[str, str]
"""A picture, and the prompt that it was made for."""


@dataclass(frozen=True)
class Judgements:
    """What was said of pictures, each made for one of the `texts`.

    `votes` of a pair are (first, tie, second) by question, zeros where it was not asked. A ranking is padded, best
    first. A rating is of one picture, from 0 to 1.
    """

    pictures: UInt8[Tensor, "pictures frames 3 edge edge"]
    """Of clips some frames each; pictures have one, if there are no clips beside them."""
    texts: Sequence[str]
    categories: Sequence[str]
    """Of each text; "" if its rows say none."""
    text: Int[Tensor, " pictures"]
    questions: Sequence[str]
    pairs: Int[Tensor, "pairs 2"]
    votes: Float[Tensor, "pairs questions 3"]
    people: Sequence[tuple[str, ...]]
    """Who cast the votes of each pair, as far as that is said."""
    rankings: Int[Tensor, "rankings places"]
    ranked: Bool[Tensor, "rankings places"]
    rated: Int[Tensor, " ratings"]
    liked: Float[Tensor, " ratings"]

    def texts_of_pairs(self) -> Int[Tensor, " pairs"]:
        """Return the place of each pair's text."""
        return self.text[self.pairs[:, 0]]

    def among(self, texts: Bool[Tensor, " texts"]) -> Judgements:
        """Return what was said of pictures of some texts; pictures and texts keep their places."""
        pairs, rankings = texts[self.text[self.pairs[:, 0]]], texts[self.text[self.rankings[:, 0]]]
        rated = texts[self.text[self.rated]]
        return Judgements(
            self.pictures,
            self.texts,
            self.categories,
            self.text,
            self.questions,
            self.pairs[pairs],
            self.votes[pairs],
            [each for each, kept in zip(self.people, pairs.tolist(), strict=True) if kept],
            self.rankings[rankings],
            self.ranked[rankings],
            self.rated[rated],
            self.liked[rated],
        )

    def __len__(self) -> int:
        return len(self.pairs) + len(self.rankings) + len(self.rated)


def judgements(
    preferences: Sequence[Preference], edge: int, frames: int, leave_out: Callable[[str], None] | None = None
) -> Judgements:
    """Return preferences as tensors, each picture read once and scaled to `edge` pixels, of a clip so many frames.

    Two pictures are a pair; more, of different worth, a ranking, or else every two a pair; one is rated. Raises
    UserError for a picture that cannot be read, or leaves out what was said of it and tells `leave_out` where and why.
    """
    places: dict[Key, int] = {}
    pictures: list[Tensor] = []
    texts: dict[str, int] = {}
    categories: list[str] = []
    text: list[int] = []
    questions = list(dict.fromkeys(name for each in preferences for name in each.votes)) or [OVERALL]
    pairs: list[tuple[int, int]] = []
    votes: list[Float[Tensor, "questions 3"]] = []
    people: list[tuple[str, ...]] = []
    rankings: list[Tensor] = []
    rated: list[tuple[int, float]] = []
    for each, seen in _read(preferences, edge, frames, leave_out):
        if each.prompt.text not in texts:
            texts[each.prompt.text] = len(texts)
            categories.append(each.prompt.category or "")
        for key, shown in seen.items():
            places[key] = len(pictures)
            pictures.append(shown)
            text.append(texts[each.prompt.text])
        rows = [places[_key(picture, each)] for picture in each.pictures]
        if len(rows) == 1:
            rated.append((rows[0], each.worth[0]))
        elif len(rows) > 2 and len(set(each.worth)) == len(rows):
            order = sorted(range(len(rows)), key=lambda i: -each.worth[i])
            rankings.append(torch.tensor([rows[i] for i in order]))
        else:
            for i in range(len(rows)):
                for j in range(i + 1, len(rows)):
                    pairs.append((rows[i], rows[j]))
                    votes.append(_votes(each, i, j, questions))
                    people.append(each.people)
    most = max([2, *map(len, rankings)])
    padded = torch.zeros(len(rankings), most, dtype=torch.long)
    ranked = torch.zeros(len(rankings), most, dtype=torch.bool)
    for row, order_ in enumerate(rankings):
        padded[row, : len(order_)], ranked[row, : len(order_)] = order_, True
    return Judgements(
        torch.stack(_equally_long(pictures)),
        list(texts),
        categories,
        torch.tensor(text),
        questions,
        torch.tensor(pairs, dtype=torch.long).reshape(-1, 2),
        torch.stack(votes) if votes else torch.zeros(0, len(questions), 3),
        people,
        padded,
        ranked,
        torch.tensor([row for row, _ in rated], dtype=torch.long),
        torch.tensor([liked for _, liked in rated]),
    )


def _read(
    preferences: Sequence[Preference], edge: int, frames: int, leave_out: Callable[[str], None] | None
) -> Iterator[tuple[Preference, dict[Key, UInt8[Tensor, "frames 3 edge edge"]]]]:
    """Yield each preference with those of its pictures that no other had before it."""
    known: set[Key] = set()
    fault = ""
    for each in preferences:
        try:
            fresh = {key: picture for picture in each.pictures if (key := _key(picture, each)) not in known}
            seen = {key: _levels(read_frames(picture, frames, edge)) for key, picture in fresh.items()}
        except UserError as error:
            fault = f"{each.where}: {error}"
            if leave_out is None:
                raise UserError(fault) from error
            leave_out(fault)
            continue
        known.update(seen)
        yield each, seen
    if not known:
        raise UserError(f"no preference is left: {fault}")


def _levels(shown: Float[Tensor, "frames 3 edge edge"]) -> UInt8[Tensor, "frames 3 edge edge"]:
    return (shown * 255).round().byte().contiguous()


def _equally_long(pictures: Sequence[Tensor]) -> list[Tensor]:
    """Return all with as many frames as the longest, those of shorter ones several times."""
    longest = max(len(each) for each in pictures)
    return [each[torch.arange(longest) * len(each) // longest] for each in pictures]


@dataclass(frozen=True)
class Parts:
    """The same judgements by what they are for; no text is in two of them."""

    train: Judgements
    calibration: Judgements
    heldout: Judgements


def split(whole: Judgements, heldout: float, calibration: float) -> Parts:
    """Split by text, never by pair: a text goes by a number that it always has. Raises UserError if a part is empty.

    `heldout` and `calibration` are shares of the texts; of calibration 0 nothing is asked.
    """
    share = torch.tensor([fixed_share(text) for text in whole.texts])
    held, between = share < heldout, (share >= heldout) & (share < heldout + calibration)
    parts = Parts(whole.among(~held & ~between), whole.among(between), whole.among(held))
    for name, part in vars(parts).items():
        spared = (name == "train" and len(part)) or (name == "calibration" and calibration == 0)
        if len(part.pairs) == 0 and not spared:
            raise UserError(
                f"{len(whole.pairs)} pairs of {len(whole.texts)} prompts are too few: none is left for {name}, and "
                "each prompt is for training, calibration or measurement only; get votes on more prompts"
            )
    if not sided(parts.heldout)[0]:
        raise UserError(
            f"of {len(parts.heldout.pairs)} pairs of held-out prompts none has a better side, so that nothing could be "
            f"measured ({whole.questions[0]}); get votes on more prompts"
        )
    return parts


def sided(of: Judgements) -> list[bool]:
    """Return of each question whether anybody chose a side."""
    return (of.votes[:, :, [0, 2]].sum((0, 2)) > 0).tolist()


def measurable(said: Sequence[Preference], heldout: float) -> Sequence[Preference]:
    """Return preferences, but of held-out prompts only those that were asked by chance: nothing is measured by others.

    Raises UserError if that leaves nothing to measure by.
    """
    held = [each for each in said if fixed_share(each.prompt.text) < heldout]
    if held and all(each.active for each in held):
        raise UserError(
            f"all {len(held)} pairs of held-out prompts were asked actively, as those that tell most, and a reward is "
            "measured on pairs of chance: ask about more prompts without --active"
        )
    return [each for each in said if not (each.active and fixed_share(each.prompt.text) < heldout)]


def _votes(each: Preference, i: int, j: int, questions: Sequence[str]) -> Float[Tensor, "questions 3"]:
    """Return the votes of two pictures: as counted, or what their worths say about the first question."""
    if each.votes and len(each.pictures) == 2:
        return torch.tensor([each.votes.get(name, (0.0, 0.0, 0.0)) for name in questions])
    a, b = each.worth[i], each.worth[j]
    cast = torch.zeros(len(questions), 3)
    cast[0] = torch.tensor([0.0, 1.0, 0.0] if a == b else [a / (a + b), 0.0, b / (a + b)])
    return cast


def _key(picture: Path | bytes, of: Preference) -> Key:
    name = hashlib.sha256(picture).hexdigest() if isinstance(picture, bytes) else str(picture)
    return name, of.prompt.text


def voters(of: Judgements, names: Sequence[str]) -> Int[Tensor, " pairs"]:
    """Return the place among `names` of who said what was said of each pair; -1 if it was several, or none of them."""
    place = {name: i for i, name in enumerate(names)}
    return torch.tensor([place.get(each[0], -1) if len(each) == 1 else -1 for each in of.people], dtype=torch.long)


def digests(texts: Sequence[str]) -> list[str]:
    """Return what stands for texts in a card, so that it can be told whether a judge was trained on one."""
    return sorted(hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts)


def slices(of: Judgements) -> Mapping[str, Bool[Tensor, " pairs"]]:
    """Return the pairs of each category of prompt, if there are several."""
    names = [of.categories[i] for i in of.texts_of_pairs().tolist()]
    there = sorted({name for name in names if name})
    return {name: torch.tensor([each == name for each in names]) for name in there} if len(there) > 1 else {}
