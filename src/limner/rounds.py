"""`limner loop`: collect votes, learn from them what is better, post-train, and collect from what that made.

A loop's folder has loop.json, which says what loop it is, and a folder a round:

    pictures/, asked.jsonl   pairs that the last policy drew, and how probable it was to ask each
    votes.jsonl              what was said of them, a row a vote
    so_far.jsonl             all votes up to here: what is learned from
    reward/                  the reward that learned them, where the recipe's samples are drawn
    policy/                  the run that learned from that reward, or from the votes themselves; none where the
                             reward may be chance's, and the round after it goes on from more votes
    round.json               where each of these came from, and its hash

Each stage is whole once round.json names it, so a loop that was killed goes on at the stage that it was in.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from limner.build import assemble, drawer, load_prompts
from limner.claim import begun, held, make
from limner.core.errors import UserError
from limner.core.media import Media, Videos
from limner.core.paths import to_folder
from limner.core.rng import Rng
from limner.core.tree import concatenate
from limner.core.types import Prompt
from limner.data.lines import parse_object, read_lines
from limner.data.sampler import PromptSampler
from limner.feedback.choosing import apart
from limner.feedback.task import hash_of
from limner.judges import compose
from limner.looping import LOOP, Loop, Looping, learned_from, require_possible, require_same
from limner.objectives.choice import disagreement
from limner.pairs import PICTURES, SIDES
from limner.report.data import Interval
from limner.report.file import read_object, write_text
from limner.report.text import bounds, quantity
from limner.reward_models import train_reward
from limner.rewards.learned.folder import read_card
from limner.rewards.learned.reward import Learned
from limner.rollout.score import shown
from limner.run import Run, open_run, train
from limner.training.config import RunConfig
from limner.training.source import Preferences
from limner.training.state import State
from limner.votes import Rows, beside, of_judge, of_people, require_able, several

ROUND, ASKED, VOTES, SO_FAR = "round.json", "asked.jsonl", "votes.jsonl", "so_far.jsonl"
POLICY = "policy/export"
"""What the policy of a round that has trained one is kept as."""


def loop(
    config: RunConfig,
    how: Looping | None = None,
    learning: Mapping[str, Any] | None = None,
    out: str | Path = "",
    quiet: bool = False,
) -> Path:
    """Go round until `how.rounds` are done, or people are waited for; return the loop's folder.

    A recipe whose source is `Preferences` learns from the votes themselves, any other from a reward that has learned
    them, which `learning` says how to train. Raises UserError for a folder that holds another loop.
    """
    folder = to_folder(out or Path("runs") / f"loop-{config.name}-{config.seed}", "--out")
    one = Loop(config, how or Looping(), learning or {}, folder, quiet)
    require_possible(one)
    require_same(one)
    make(folder)
    with held(folder):
        write_text(folder / LOOP, json.dumps(one.described(), indent=1, ensure_ascii=False) + "\n")
        for number in range(1, one.how.rounds + 1):
            if not go_round(one, number):
                break
    return folder


def go_round(one: Loop, number: int) -> bool:
    """Do what is left of a round, and keep where all of it came from; tell whether it is done."""
    place, record = one.place(number), record_of(one, number)
    stages = {"asked": ask, "votes": collect, "reward": learn, "policy": post_train}
    if one.direct:
        del stages["reward"]
    for name, stage in stages.items():
        if name in record:
            require_unchanged(place, name, record[name])
            continue
        found = stage(one, number)
        if found is None:
            return False
        record[name] = found
        write_text(place / ROUND, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        one.say(f"round {number}, {name}: {found['told']}")
    return True


def record_of(one: Loop, number: int) -> dict[str, Any]:
    """Return what is noted of a round, of each stage that is whole."""
    return read_object(one.place(number) / ROUND) or {}


def require_unchanged(place: Path, stage: str, record: Mapping[str, Any]) -> None:
    """Refuse files that are not what later stages were made from."""
    path = place / record["file"]
    if not path.exists() or hash_of(path) != record["sha256"]:
        raise UserError(
            f"{path} is missing, or no longer what the loop went on from: put it back, or delete {place} and all later "
            "rounds, and the loop goes on from there"
        )


def ask(one: Loop, number: int) -> dict[str, Any]:
    """Draw pairs by the policy of the round before, and choose which of them are asked."""
    place, how = one.place(number), one.how
    run, source = before(one, number)
    if number == 1:
        require_judges(one, run)
    judge = Learned(str(one.place(number - 1) / "reward")) if how.choice == "active" and number > 1 else None
    count = how.pairs * (how.pool if judge else 1)
    key = Rng((one.config.seed, "loop", number))
    order = PromptSampler(len(one.prompts), 1, key.child("prompts").seed())
    (place / PICTURES).mkdir(parents=True, exist_ok=True)
    rows, gains, size = [], list[float](), min(one.config.micro_batch, 64)
    for start in range(0, count, size):
        pairs = range(start, min(start + size, count))
        prompts = [one.prompts[int(order.indices(i))] for i in pairs]
        media, finite = _drawn(run, prompts, [[key.child(side, i).seed() for i in pairs] for side in SIDES])
        names = [f"{PICTURES}/{i:06d}-{side}{run.suffixes[0]}" for side in SIDES for i in pairs]
        media.save([place / name for name in names])
        clip = {"frames": media.values.shape[1], "fps": media.fps} if isinstance(media, Videos) else {}
        gain = _gain(judge, media, prompts) if judge else torch.zeros(len(pairs))
        for k in finite.nonzero()[:, 0].tolist():
            row = {"pair": pairs[k], "prompt": prompts[k].text, "category": prompts[k].category or ""}
            two = {"media_a": names[k], "media_b": names[len(pairs) + k], "source_a": source, "source_b": source}
            rows.append(row | two | clip | {"propensity": 1.0})
            gains.append(float(gain[k]))
    if judge:
        texts, rng = [row["prompt"] for row in rows], random.Random(key.seed())
        kept = apart(texts, gains, min(how.pairs, len(rows)), how.explore, rng)
        rows = [rows[i] | {"propensity": p, "asked": why} for i, why, p in kept]
    _write(place / ASKED, rows)
    told = f"{len(rows)} pairs of {count} drawn" if judge else f"{len(rows)} pairs drawn"
    by = before_hash(one, number)
    return _kept(place, ASKED, told) | {"choice": "active" if judge else "random", "drawn": count, "policy": by}


def require_judges(one: Loop, run: Run) -> None:
    """Show a first pair to all that later judge, and refuse what cannot: votes of people are too dear to be lost so.

    These are the annotator's judges, those beside the round's reward, and those of the evaluation, of its own prompts.
    """
    config, how, first = one.config, one.how, one.prompts[0]
    media, _ = _drawn(run, [first], [[0], [1]])
    for judges in several(how.annotator).values():
        require_able("annotator", judges, media, first)
    for judges in () if one.direct else beside(how.reward):
        require_able("reward", judges, media, first)
    if config.evaluation.reward and config.evaluation.prompts:
        heldout = load_prompts(config.evaluation.prompts)[0]
        require_able("evaluation.reward", compose(config.evaluation.reward), media, heldout)


def trained(one: Loop, number: int) -> int:
    """Return the last round before `number` that trained a policy; 0: none did."""
    return next((n for n in range(number - 1, 0, -1) if record_of(one, n)["policy"]["file"] == POLICY), 0)


def before(one: Loop, number: int) -> tuple[Run, str]:
    """Return the model that draws the pairs of a round, and what it is called: the base, or what a round made."""
    if last := trained(one, number):
        return open_run(one.place(last) / "policy", trust=True), f"round-{last}"
    return Run(Path(), assemble(one.config, training=False), State()), "base"


def before_hash(one: Loop, number: int) -> str:
    """Return which weights draw the pairs of a round."""
    if last := trained(one, number):
        return str(record_of(one, last)["policy"]["sha256"])
    return one.config.model.start or one.config.model.path


def collect(one: Loop, number: int) -> dict[str, Any] | None:
    """Return what was said of the pairs, by people or a judge; None: people are waited for."""
    place, how = one.place(number), one.how
    rows = _rows(place / ASKED)
    votes: Rows | None
    if judges := several(how.annotator):
        size = min(one.config.micro_batch, 64)
        votes = [vote for who in judges.items() for vote in of_judge(*who, place, rows, one.prompts, size)]
    else:
        votes = of_people(place / ASKED, rows, how.enough, how.each)
    if votes is None:
        return None
    if not votes:
        raise UserError(f"{how.annotator} said nothing of {len(rows)} pairs, so that nothing can be learned")
    _write(place / VOTES, votes)
    before = _rows(one.place(number - 1) / SO_FAR) if number > 1 else []
    ahead = f"../round-{number - 1}/"
    moved = [row | {side: os.path.normpath(ahead + row[side]) for side in ("media_a", "media_b")} for row in before]
    _write(place / SO_FAR, [*moved, *votes])
    told = f"{len(votes)} votes, {len(before) + len(votes)} with those before"
    return _kept(place, SO_FAR, told) | {"annotator": how.annotator, "asked": hash_of(place / ASKED)}


def learn(one: Loop, number: int) -> dict[str, Any]:
    """Learn a reward from all votes so far."""
    place = one.place(number)
    shutil.rmtree(place / "reward", ignore_errors=True)  # what is not noted was not finished
    folder = train_reward(str(place / SO_FAR), place / "reward", one.learning)
    card = read_card(folder)
    right = Interval(**next(iter(card.measured.values()))["accuracy"])
    told = f"it agrees with {quantity(right.value, 'rate')} of held-out votes (95 % interval {bounds(right, 'rate')})"
    doubtful = not right.low > 0.5
    if doubtful:
        told += ", and so may chance: what is trained against it may become worse, and more votes would tell"
    votes = hash_of(place / SO_FAR)
    return _kept(place, "reward", told) | {"votes": votes, "weights": card.weights, "doubtful": doubtful}


def post_train(one: Loop, number: int) -> dict[str, Any]:
    """Train the last policy on: against the round's reward, if that is not in doubt, or by the votes themselves."""
    place, folder, last = one.place(number), one.place(number) / "policy", trained(one, number)
    start = str(one.place(last) / POLICY) if last else one.config.model.start
    if record_of(one, number).get("reward", {}).get("doubtful") and one.how.doubtful == "wait":
        told = "not trained, for the reward is in doubt: the next round's votes come beside these (or --doubtful train)"
        return _kept(place, "reward", told) | {"from": start, "heldout": None}
    config = replace(
        one.config,
        name=f"{one.config.name}-round-{number}",
        model=replace(one.config.model, start=start),
        out=str(folder),
    )
    if isinstance(config.source, Preferences):
        config = replace(config, prompts="", source=replace(config.source, data=str(place / SO_FAR)))
    else:
        config = replace(config, reward=learned_from(one.how.reward, str(place / "reward")))
    run = train(config, resume=begun(folder), quiet=one.quiet)
    heldout = (read_object(folder / "summary.json") or {}).get("heldout")
    told = f"held-out {heldout['before']['value']:.3g} -> {heldout['after']['value']:.3g}" if heldout else "trained"
    judge = hash_of(place / (SO_FAR if one.direct else "reward"))
    return (
        _kept(place, POLICY, told)
        | {"from": start, "learned_from": judge, "heldout": heldout}
        | {"iterations": run.state.iteration}
    )


def _kept(place: Path, name: str, told: str) -> dict[str, Any]:
    return {"file": name, "sha256": hash_of(place / name), "told": told}


def _drawn(run: Run, prompts: Sequence[Prompt], seeds: Sequence[Sequence[int]]) -> tuple[Media, Bool[Tensor, " pairs"]]:
    """Return the first pictures of pairs and then the second ones, and of which pairs both are finite."""
    draw = drawer(run.assembly.parts, run.assembly.policy("policy", None))
    with run.averaged():
        seen = shown(concatenate([draw(prompts, some) for some in seeds]))
    return seen.media, seen.finite.unflatten(0, (len(SIDES), -1)).all(0)


def _gain(judge: Learned, media: Media, prompts: Sequence[Prompt]) -> Float[Tensor, " pairs"]:
    with torch.no_grad():
        a, b = judge.members(media, [*prompts, *prompts]).unflatten(1, (len(SIDES), -1)).unbind(1)
    return disagreement(a - b)


def _rows(path: Path) -> list[dict[str, Any]]:
    return [parse_object(line, f"{path}, line {i}") for i, line in read_lines(path, str(path))]


def _write(path: Path, rows: Rows) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
