"""`limner reward train` and `promote`: a reward learned from what people said, and which one is served.

A reward's folder has the weights, card.json and report.html. What is served is a folder with served.json, which names
the reward that answers there now; it changes only for one that people who were not asked before find better.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.errors import UserError
from limner.core.paths import path_of, to_folder
from limner.core.types import Prompt
from limner.data.pairs import as_media
from limner.data.preferences import Preference, read_preferences
from limner.evaluate.ordering import Ordering, agreed, better, by_prompt, likeliest, ordering, right, swap_consistency
from limner.feedback.task import file_hash
from limner.objectives.lapse import Lapse
from limner.recipes.override import override
from limner.report.data import Chart, Interval, Series
from limner.report.file import read_object, write_text
from limner.report.page import Exhibit, Page, Section, Table, page
from limner.report.reward_card import lit
from limner.report.text import bounds, number, prompts, quantity
from limner.rewards.learned.folder import CARD, SERVED, WEIGHTS, Card, place_of, read, write
from limner.rewards.learned.motion import as_trained
from limner.rewards.learned.network import Ensemble
from limner.rewards.learned.reward import Learned
from limner.training.certainty import LEAST, Certainty, certainty, foretold, lapse
from limner.training.judgements import (
    Judgements,
    Parts,
    digests,
    judgements,
    measurable,
    sided,
    slices,
    split,
)
from limner.training.reward_model import RewardTraining, Worths, train, worths

REPORT = "report.html"
PAIRS_EXPLAINED = 4
"""Held-out pairs of which the report says what their scores come from."""


def train_reward(data: str, folder: str | Path, values: Mapping[str, Any]) -> Path:
    """Train a reward on the preferences of a file or folder, measure it on prompts it never saw, and write `folder`.

    `values` override settings of `RewardTraining`. A folder that holds a reward is not written over.
    """
    how = override(RewardTraining(), values)
    if Path(how.design.network).is_dir() and how.design.network:  # the reward will be asked from elsewhere
        how = override(how, {"design.network": str(Path(how.design.network).resolve())})
    place = to_folder(folder, "--out")
    require_free(place)
    parts = _heard(data, how)
    ensemble, words, people, bank = train(parts.train, how, lambda line: print(line, file=sys.stderr))
    worth = worths(ensemble, people, parts.train, bank)
    questions = parts.train.questions
    sure = [certainty(worth, parts.calibration, i) for i in range(len(questions))]
    lapses = [lapse(worth, sure[i], parts.calibration, i) for i in range(len(questions))]
    found = {
        name: measured(worth, sure[i], lapses[i], ensemble, how, parts.heldout, i)
        for i, (name, there) in enumerate(zip(questions, sided(parts.heldout), strict=True))
        if there
    }
    about = f"what people prefer: learned from {len(parts.train)} judgements of {path_of(data, 'pairs').name}"
    trained = {"data": str(data), "sha256": file_hash(_file(Path(data))), "settings": asdict(how), **_seen(parts)}
    trained["frames"] = parts.train.pictures.shape[1]
    swapped = dict(zip(questions, _swapped(worth, ensemble, parts.heldout), strict=True))
    told = {name: _told(each) | {"swap_consistency": swapped[name]} for name, each in found.items()}
    scale, shared = zip(*sure, strict=True)
    card = write(place, how.design, questions, words, scale, shared, lapses, ensemble, about, people, trained, told)
    sliced = {name: per_slice(worth, ensemble, how, parts.heldout, questions.index(name)) for name in found}
    write_text(place / REPORT, page(_page(place, card, found, swapped, sliced, parts)))
    return place


def _heard(data: str, how: RewardTraining) -> Parts:
    """Return what was said, by what it is for; where `broken` is skipped, what cannot be read is told of instead."""
    said, faults = read_preferences(data, broken=how.broken)
    for fault in faults:
        _leave_out(fault)
    _tell_of_masks(said, data)
    skips = _leave_out if how.broken == "skip" else None
    heard = judgements(measurable(said, how.heldout), how.design.edge, how.frames, skips)
    return split(heard, how.heldout, how.calibration)


def _tell_of_masks(said: Sequence[Preference], data: str) -> None:
    """Say that a reward looks at whole pictures, where masks say that only a part of them was judged."""
    if masked := sum(each.mask is not None for each in said):
        print(
            f"{data}: masks say where {masked} of {len(said)} pairs count, and do not count here: a reward learns from "
            "whole pictures",
            file=sys.stderr,
        )


def _leave_out(fault: str) -> None:
    print(f"left out: {fault}", file=sys.stderr)


def require_free(place: Path) -> None:
    """Refuse a folder that holds a reward, or anything that a reward which was not finished did not leave there."""
    if (place / CARD).exists() or (place / SERVED).exists():
        raise UserError(f"{place} holds a reward; choose another folder with --out, and nothing is lost")
    left = {WEIGHTS, f".{WEIGHTS}.part", f".{CARD}.part"}
    if place.is_dir() and (there := {each.name for each in place.iterdir()} - left):
        raise UserError(f"{place} holds {min(there)} and is no folder of a reward; choose another with --out")


def measured(
    worth: Worths,
    sure: Certainty,
    lapses: Lapse,
    ensemble: Ensemble,
    how: RewardTraining,
    on: Judgements,
    question: int,
) -> Ordering:
    """Return how well calibrated worths order pairs that were not trained on, and how often a side is chosen."""
    stated = lapses.log_odds(foretold(worth, sure, on, question))
    plain = likeliest(worth.leads(on, question).mean, how.design.ties, ensemble.tie(question))
    return ordering(stated, on.votes[:, question], on.texts_of_pairs(), plain)


def promote(new: str | Path, served: str | Path, on: str) -> str:
    """Serve the reward `new` at the folder `served` if it is better than what is served there; return what is found.

    `on` are votes of held-out people: pairs whose prompts and annotators neither reward was trained or measured on, and
    that were asked by chance; others are left out. Better is: the 95 % interval of the difference in accuracy lies
    above 0. Where nothing is served yet, above 1/2. Raises UserError where it is not, and nothing changes.
    """
    candidate, place = place_of(new), to_folder(served, "SERVED")
    if (place / CARD).exists():
        raise UserError(f"{place} is a reward's own folder; name the folder from which rewards are served, another one")
    pointer = read_object(place / SERVED) or {"history": []}
    incumbent = place_of(place) if "folder" in pointer else None
    cards = [read(each).card for each in (candidate, incumbent) if each is not None]
    kept, told = _held_out(on, cards)
    leads = [_leads(each, kept) for each in (candidate, incumbent) if each is not None]
    votes, text = kept.votes[:, 0], kept.texts_of_pairs()
    accuracy = [by_prompt(right(lead, votes), text) for lead in leads]
    gained = better(leads[0], leads[1], votes, text) if incumbent else _above_chance(accuracy[0])
    name = f"what is served there ({quantity(accuracy[1].value, 'rate')})" if incumbent else "chance (50 %)"
    evidence = (
        f"{new} is right about {quantity(accuracy[0].value, 'rate')} of held-out votes, {told}: "
        f"{100 * gained.value:+.1f} points against {name}, 95 % interval {bounds(gained, 'rate')}"
    )
    if not gained.low > 0:
        raise UserError(f"{evidence}. It must lie above 0, so {place} stays as it is")
    entry = {"folder": os.path.relpath(candidate, place), "weights": cards[0].weights, "evidence": evidence}
    history = [*pointer["history"], *([{k: v for k, v in pointer.items() if k != "history"}] if incumbent else [])]
    write_text(place / SERVED, json.dumps(entry | {"history": history}, indent=2, ensure_ascii=False) + "\n")
    return f"{evidence}. It is served at {place} now: learned(folder='{place}')"


def _held_out(on: str, cards: Sequence[Card]) -> tuple[Judgements, str]:
    """Return the judgements of people and prompts that no card knows, and how many those are, in words."""
    said, _ = read_preferences(on)
    _tell_of_masks(said, on)
    known = {digest for card in cards for digest in card.trained.get("prompts", ())}
    people = {name for card in cards for name in card.trained.get("people", ())}
    kept = [
        each
        for each in said
        if digests([each.prompt.text])[0] not in known and not people.intersection(each.people) and not each.active
    ]
    if not kept:
        raise UserError(
            f"{on}: every one of its {len(said)} rows is of a prompt or a person that a reward was made with, or was "
            "asked actively, as one that tells much"
        )
    frames = max(card.trained.get("frames", RewardTraining.frames) for card in cards)
    found = judgements(kept, max(card.design.edge for card in cards), frames)
    sides = found.votes[:, 0, 0] + found.votes[:, 0, 2] > 0
    if not sides.any():
        raise UserError(f"{on}: nobody chose a side in what is left of it")
    left = len(said) - len(kept)
    note = f", {left} rows left out that a reward was made with, or that were asked actively" if left else ""
    return found, f"{len(found.pairs)} pairs of {_count_prompts(found)}{note}"


def _leads(folder: Path, on: Judgements) -> Float[Tensor, " pairs"]:
    learned = read(folder)
    if learned.card.design.motion:
        on = replace(on, pictures=as_trained(on.pictures, learned.card.trained["frames"]))
    return worths(learned.ensemble, learned.card.people, on).leads(on, 0).mean


def _above_chance(accuracy: Interval) -> Interval:
    return Interval(accuracy.value - 0.5, accuracy.low - 0.5, accuracy.high - 0.5, accuracy.n)


def _seen(parts: Parts) -> dict[str, Any]:
    """Return what may not be among the votes of a promotion: all prompts and people of the data."""
    people = {name for part in (parts.train, parts.calibration, parts.heldout) for each in part.people for name in each}
    return {"prompts": digests(list(parts.train.texts)), "people": sorted(people)}


def _file(data: Path) -> Path:
    """Return the file that stands for the data: of a folder, the index in it, or its first file."""
    if data.is_file():
        return data
    return min(path for path in data.rglob("*") if path.is_file())


def _told(of: Ordering) -> dict[str, Any]:
    return {
        "accuracy": of.accuracy.to_dict(),
        "accuracy_with_ties": of.with_ties.to_dict(),
        "log_loss": round(of.log_loss, 4),
        "calibration_error": round(of.reliability.error, 4),
        "votes": of.votes,
    }


def per_slice(
    worth: Worths, ensemble: Ensemble, how: RewardTraining, on: Judgements, question: int
) -> Mapping[str, tuple[Interval, Interval]]:
    """Return, of each category of prompt, how often pairs are ordered as people did, without ties and with them."""
    lead, votes, text = worth.leads(on, question).mean, on.votes[:, question], on.texts_of_pairs()
    all_right = agreed(likeliest(lead, how.design.ties, ensemble.tie(question)), votes)
    chosen, asked = votes[:, 0] + votes[:, 2] > 0, votes.sum(1) > 0
    return {
        name: (
            by_prompt(right(lead, votes)[rows & chosen], text[rows & chosen]),
            by_prompt(all_right[rows & asked], text[rows & asked]),
        )
        for name, rows in slices(on).items()
        if bool((rows & chosen).any())
    }


def _swapped(worth: Worths, ensemble: Ensemble, on: Judgements) -> list[float]:
    """Return of each question how often the same is said when pairs are scored anew with their sides swapped."""
    rows = on.pairs.flip(1).flatten()
    pairs = torch.arange(len(rows)).view(-1, 2)
    anew = replace(on, pictures=on.pictures[rows], text=on.text[rows], pairs=pairs)
    again = worths(ensemble, worth.people, anew)
    return [swap_consistency(worth.leads(on, i).mean, again.leads(anew, i).mean) for i in range(len(on.questions))]


def _page(
    place: Path,
    card: Card,
    found: Mapping[str, Ordering],
    swapped: Mapping[str, float],
    sliced: Mapping[str, Mapping[str, tuple[Interval, Interval]]],
    parts: Parts,
) -> Page:
    first = next(iter(found.values()))
    told = [
        f"{name}: it has learned nothing that holds for other prompts"
        for name, scale in zip(card.questions, card.scale, strict=True)
        if scale <= LEAST
    ]
    told += [f"{name}: nobody chose a side on held-out prompts" for name in card.questions if name not in found]
    told += [
        f"{name}: {each.votes:,.0f} held-out votes do not tell it from a coin, which is right about 50 %; it takes "
        "votes on more prompts"
        for name, each in found.items()
        if not each.accuracy.low > 0.5
    ]
    questions = [
        (
            name,
            _rate(each.accuracy),
            _rate(each.with_ties),
            number(each.log_loss),
            quantity(each.reliability.error, "rate"),
            quantity(swapped[name], "rate"),
        )
        for name, each in found.items()
    ]
    columns = ("Question", "Accuracy", "With ties", "Log loss", "Calibration error", "Same when swapped")
    by_slice = [
        (kind, name, *(_rate(each) for each in both)) for name, kinds in sliced.items() for kind, both in kinds.items()
    ]
    tables = [Table(columns, questions)]
    tables += [Table(("Prompts", "Question", "Accuracy", "With ties"), by_slice)] if by_slice else []
    return Page(
        place.name,
        "limner learned reward",
        f"On held-out prompts it agrees with {quantity(first.accuracy.value, 'rate')} of people's choices.",
        (
            ("Accuracy", quantity(first.accuracy.value, "rate"), f"95 % {bounds(first.accuracy, 'rate')}"),
            ("Calibration error", quantity(first.reliability.error, "rate"), "of stated probabilities"),
            ("Trained on", f"{len(parts.train):,}", f"judgements of {_count_prompts(parts.train)}"),
            (
                "Measured on",
                f"{len(parts.heldout.pairs):,}",
                f"pairs of {_count_prompts(parts.heldout)}, none trained on",
            ),
        ),
        (
            Section("Agreement with people", NOTE, tables),
            Section("Calibration", CALIBRATION, charts=[_reliability(name, each) for name, each in found.items()]),
            Section("What a score comes from", EXPLAINED, exhibits=_explained(place, parts.heldout)),
        ),
        told,
    )


NOTE = (
    "Accuracy leaves ties out; with ties, the likeliest of three outcomes counts. Ranges are 95 % intervals over "
    "prompts (Student’s t). Same when swapped: the share of held-out pairs in which the same picture leads, or none, "
    "when both are scored anew with their sides changed."
)
CALIBRATION = (
    "What was stated (across) and what came true (up), each pair both ways round; on the straight line they are equal. "
    "What is stated is discounted for how unsure a lead is, and for pictures that are misread; scale, error and lapses "
    "are fitted to other prompts than these."
)

EXPLAINED = (
    f"{PAIRS_EXPLAINED} held-out pairs, the one that people preferred first: what each clause of the prompt, and each "
    "place of the picture, adds, which is the mean, over orders in which they come, of how much higher a score is with "
    "it (Shapley’s values; of places an estimate, from few orders). Clauses add up to the score; places, bright where "
    "they add more, to what it is above that of a grey picture. Networks go by that; whether people do is not shown."
)


def _explained(place: Path, on: Judgements) -> list[Exhibit]:
    """Return pictures of some held-out pairs, each with what its score comes from."""
    votes = on.votes[:, 0, 0] - on.votes[:, 0, 2]
    chosen = votes.nonzero()[:PAIRS_EXPLAINED, 0]
    rows = torch.where(votes[chosen, None] > 0, on.pairs[chosen], on.pairs[chosen].flip(1)).flatten()
    if not len(rows):
        return []
    pictures, texts = on.pictures[rows][:, on.pictures.shape[1] // 2], [on.texts[i] for i in on.text[rows].tolist()]
    output = Learned(str(place), explain=True)(as_media([*pictures / 255]), [Prompt(text) for text in texts])
    bright = lit(pictures, output.maps["where"])
    return [
        Exhibit(
            (
                ("preferred" if i % 2 == 0 else "not preferred", pictures[i]),
                (f"{output.score[i]:+.2f} nats", bright[i]),
            ),
            f"{texts[i]}\n{output.explanation[i]}",
        )
        for i in range(len(rows))
    ]


def _count_prompts(of: Judgements) -> str:
    rows = torch.cat([of.pairs[:, 0], of.rankings[:, 0], of.rated])
    return prompts(len(of.text[rows].unique()))


def _reliability(name: str, of: Ordering) -> Chart:
    stated, came = of.reliability.stated.tolist(), of.reliability.true.tolist()
    ideal = Series("as stated", (0.0, 1.0), (0.0, 1.0))
    return Chart(
        name,
        f"Expected calibration error {quantity(of.reliability.error, 'rate')}.",
        (Series("came true", stated, came), ideal),
        "rate",
        (0.0, 1.0),
        axis="stated probability",
    )


def _rate(interval: Interval) -> str:
    """Write a share above its interval."""
    return f"{quantity(interval.value, 'rate')}\n{bounds(interval, 'rate')}"
