"""`limner annotate`: pictures to compare, a page for people, and a file of what they said."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

from limner.core.errors import UserError
from limner.core.paths import path_of
from limner.evaluate.store import load
from limner.feedback.choosing import Asking
from limner.feedback.desk import app
from limner.feedback.gold import Known, gold, misplaced, spoil
from limner.feedback.ledger import Ledger
from limner.feedback.pairing import MOST_MET, crowd, tasks_of
from limner.feedback.sources import VOTES, gather, item_at
from limner.feedback.task import MOST_RANKED, OVERALL, Item, Kind, Task
from limner.serve.door import Door
from limner.serve.host import listen, server

GOLD = 24
"""How many questions with a known answer are made."""
ASKED: Mapping[Kind, str] = {"pair": "pairs", "rate": "ratings", "rank": "rankings"}


def annotate(
    place: Path,
    *,
    invite: int = 1,
    votes: int = 1,
    questions: str = OVERALL,
    ask: Kind = "pair",
    most: int = MOST_RANKED,
    database: str = "",
    host: str = "127.0.0.1",
    port: int = 8000,
    address: str = "",
    active: bool = False,
    known: Known = "spoilt",
) -> None:
    """Ask people about what is at `place` until interrupted; links are printed, `invite` new ones each time.

    `ask`: which of two is better, how good each is, or the order of up to `most` of a prompt.

    `place` is a run (its pictures before and after, at equal prompts and seeds), or what `gather` reads.
    `known`: questions whose answer is known, of a picture against itself, spoilt, or one of another prompt, or both.
    What they say is kept in `database`: a URL, or by default PLACE/votes.db (beside a .jsonl: its name with .db).
    `address` is how others reach this machine, such as https://example.org, if a proxy stands before it.
    """
    asked, place = named(questions), path_of(place, "annotate")
    url = database or f"sqlite:///{(place / VOTES if place.is_dir() else place.with_suffix('.db')).resolve()}"
    items, tasks = of_run(place, ask, most) if (place / "config.yaml").exists() else gather(place, ask, most)
    asking = Asking(least=min(3, votes), most=votes, active=active)
    spoilt = (place if place.is_dir() else place.parent) / f".{place.stem}-gold"
    admin = secrets.token_urlsafe(24)
    # every question and answer needs a token, so other machines may be let in
    with listen(host, port, admin) as listener:
        some = min(GOLD, len(tasks) // 4)
        worse = spoil(items, some if known != "misplaced" else 0)  # what cannot be read is found before writing
        others, elsewhere = misplaced(items, some if known != "spoilt" else 0)
        if known != "spoilt" and some and not elsewhere:
            raise UserError(
                f"--known {known}: every two prompts of {place} have a word in common, so that a picture of another "
                "may be right too; take --known spoilt"
            )
        ledger = Ledger(url, asking, asked)
        with ledger.alone():
            bad, sure = gold(worse, spoilt)
            ledger.add([*items, *bad, *others], [*tasks, *sure, *elsewhere])
            tokens = ledger.invite(invite)
            reached = address or f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
            what = f"{len(tasks)} {ASKED[ask]} of {len(items)} items, {votes} {'vote' if votes == 1 else 'votes'} each"
            print(f"{what}; answers are kept in {url.split('@')[-1]}")
            if many := crowd(items, tasks):
                print(f"{many} pictures have one prompt, so each meets about {MOST_MET} others, drawn by chance")
            if some and not sure and not elsewhere:
                print(
                    "no question has a known answer: videos are not spoilt; --known misplaced asks about other prompts'"
                )
            for name, token in tokens:
                print(f"{name}: {reached}/#{token}")
            print(f"how it stands, and export: {reached}/admin#{admin} (Ctrl-C ends it)", flush=True)
            server(app(ledger, admin), Door(places=2048)).run(sockets=[listener])


def of_run(folder: Path, kind: Kind = "pair", most: int = MOST_RANKED) -> tuple[list[Item], list[Task]]:
    """Return a run's pictures before and after, and the questions. Raises UserError if it has none yet."""
    items = []
    for moment in ("before", "after"):
        kept = folder / "samples" / f"{moment}-sampler"
        evaluation = load(kept) if kept.is_dir() else None
        if evaluation is None:
            raise UserError(f"run {folder}: its {moment} pictures are not there yet; let the run end first")
        for i, prompt in enumerate(evaluation.prompts):
            for j, seed in enumerate(evaluation.seeds):
                facts = {"seed": seed, "run": folder.name, "category": prompt.category or ""}
                path = evaluation.files.get((i, j), kept / f"{i:03d}-{seed}.png")
                items.append(item_at(path, prompt.text, moment, facts))
    return items, tasks_of(items, kind, most)


def named(text: str) -> tuple[str, ...]:
    """Return the questions of `--questions overall,alignment`. Raises UserError for none, or one twice."""
    names = tuple(part.strip() for part in text.split(","))
    if not all(names) or len(set(names)) != len(names):
        raise UserError(f"--questions needs different names with commas between, got {text!r}")
    return names
