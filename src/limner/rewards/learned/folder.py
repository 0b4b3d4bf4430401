"""The folder of a learned reward: `reward.safetensors`, and `card.json`, which says what it is and how it was measured.

A folder that holds `served.json` instead stands for the reward that is served from there now.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from limner.core.errors import UserError
from limner.core.paths import path_of, text_of
from limner.objectives.lapse import Lapse
from limner.rewards.learned.design import Design
from limner.rewards.learned.network import Ensemble
from limner.rewards.learned.origin import origin

CARD, WEIGHTS, SERVED = "card.json", "reward.safetensors", "served.json"
FORMAT = 1


@dataclass(frozen=True)
class Card:
    """What a learned reward is: its design, what it was trained on, and what was measured."""

    design: Design
    questions: tuple[str, ...]
    words: tuple[str, ...]
    scale: tuple[float, ...]
    """Of each question, what worths are multiplied by, so that a lead which is truly 1 wins 73 % of votes."""
    shared: tuple[float, ...]
    """Of each question, the standard deviation of an error that the members share, in nats."""
    lapses: tuple[Lapse, ...]
    """Of each question, what a lead that is discounted for how unsure it is foretells."""
    about: str
    weights: str
    """SHA-256 of the weights' file."""
    people: tuple[str, ...] = ()
    """Those whose own taste it knows, in the order of its weights."""
    trained: Mapping[str, Any] = field(default_factory=dict)
    """Its data and settings; `prompts` (digests) and `people` of every part."""
    measured: Mapping[str, Any] = field(default_factory=dict)
    network: Mapping[str, str] = field(default_factory=dict)
    """What it stands on that its folder has not (`origin`); a card of an earlier version does not say."""


@dataclass(frozen=True)
class LearnedReward:
    """A folder that was read."""

    card: Card
    ensemble: Ensemble


def write(
    folder: Path,
    design: Design,
    questions: Sequence[str],
    words: Sequence[str],
    scale: Sequence[float],
    shared: Sequence[float],
    lapses: Sequence[Lapse],
    ensemble: Ensemble,
    about: str,
    people: Sequence[str],
    trained: Mapping[str, Any],
    measured: Mapping[str, Any],
) -> Card:
    """Write a folder, the card last: a folder with a card is whole."""
    content = save({name: tensor.contiguous() for name, tensor in ensemble.state_dict().items()})
    digest = hashlib.sha256(content).hexdigest()
    asked, numbers = tuple(questions), (tuple(scale), tuple(shared), tuple(lapses))
    card = Card(design, asked, tuple(words), *numbers, about, digest, tuple(people), trained, measured, origin(design))
    folder.mkdir(parents=True, exist_ok=True)
    (part := folder / f".{WEIGHTS}.part").write_bytes(content)
    part.replace(folder / WEIGHTS)
    part = folder / f".{CARD}.part"
    told = json.dumps({"format": FORMAT, **asdict(card)}, indent=1, ensure_ascii=False)
    part.write_text(f"{told}\n", encoding="utf-8")
    part.replace(folder / CARD)
    return card


def place_of(name: str | Path) -> Path:
    """Return the folder that `name` is, or stands for. Raises UserError if no reward is there."""
    folder = path_of(name, "learned reward")
    if (folder / SERVED).is_file():
        pointer = _object(folder / SERVED)
        folder = folder / str(pointer.get("folder", ""))
    if not (folder / CARD).is_file():
        raise UserError(f"learned reward {name}: no {CARD} there; limner reward train PAIRS --out {name} makes one")
    return folder


def read_card(folder: Path) -> Card:
    """Return the card of a folder. Raises UserError if it is none of ours."""
    said = _object(folder / CARD)
    if said.pop("format", None) != FORMAT:
        raise UserError(f"{folder / CARD}: format {FORMAT} is known here; the reward is of another version of limner")
    try:
        blank = [() for _ in said["questions"]]  # what was written before there were these
        said = dict[str, Any](shared=[0.0 for _ in blank], lapses=blank, people=[]) | said
        said |= {"design": Design(**said["design"]), "lapses": [Lapse(*each) for each in said["lapses"]]}
        for name in ("questions", "words", "scale", "shared", "lapses", "people"):
            said[name] = tuple(said[name])
        return Card(**said)
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder / CARD}: no card of a learned reward ({error})") from error


def read(folder: Path) -> LearnedReward:
    """Return the reward of a folder, read once. Raises UserError if it, or what it stands on, is not what it was."""
    card = read_card(folder)
    return _read(folder / WEIGHTS, card.weights)


@lru_cache(maxsize=4)
def _read(path: Path, digest: str) -> LearnedReward:
    card = read_card(path.parent)
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        raise UserError(f"{path}: missing, or not the weights that its card names; train the reward again")
    ensemble = Ensemble(card.design, card.words, len(card.questions), len(card.people))
    try:
        ensemble.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise UserError(f"{path}: not the weights of this design: {str(error).splitlines()[0]}") from error
    if card.network and card.network != origin(card.design):
        raise UserError(
            f"{path.parent} stands on {', '.join(card.network)}, which is no longer what it was trained on: put that "
            "back, or train the reward again"
        )
    return LearnedReward(card, ensemble.eval().requires_grad_(False))


def _object(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(text_of(path, str(path)))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {error}") from error
    if not isinstance(said, dict):
        raise UserError(f"{path}: no JSON object")
    return said
