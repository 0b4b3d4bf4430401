"""`limner feedback report`: who is better, how surely, and how far those who said so are to be trusted; one page."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from jaxtyping import Float, Int
from scipy.stats import t
from torch import Tensor

from limner.core.errors import UserError
from limner.core.types import OVERALL
from limner.data.lines import parse_object, read_lines
from limner.feedback.agreement import Answers, between, fleiss, krippendorff, of_three
from limner.feedback.ledger import Ledger
from limner.feedback.saved import ledger_at
from limner.feedback.standing import checks
from limner.feedback.task import TIES, Vote
from limner.feedback.trust import right_of
from limner.objectives.choice import Ties
from limner.objectives.rating import Rating, fit_pairs, fit_rankings
from limner.report.page import Page, Section, Table
from limner.report.text import ABSENT, number, quantity

RIDGE = 1e-2
"""A weak prior on worths: whoever was never beaten has a finite one."""
ELO, MIDDLE = 400 / math.log(10), 1000.0
"""Points of Elo's scale to a nat, and where it has its middle."""
MODELS: Mapping[str, Ties] = {
    "Bradley-Terry": "bradley_terry",
    "Davidson": "davidson",
    "Rao-Kupper": "rao_kupper",
}
OUTCOMES = ("first", "tie", "second")


@dataclass(frozen=True)
class Said:
    """What somebody, "" if that is not known, said of two items: to each question 0 (the first), 1 (alike) or 2."""

    unit: str
    person: str
    makers: tuple[str, str]
    category: str
    outcomes: Mapping[str, int]
    times: int = 1
    weight: float = 1.0
    """How much each of these counts for who is better."""


@dataclass(frozen=True)
class Collection:
    """All that was said: of pairs, in rankings (makers, the best first), in ratings (of a maker, 1 to 5).

    Of a ledger, also its votes one by one.
    """

    said: Sequence[Said]
    rankings: Sequence[Sequence[str]]
    ratings: Sequence[tuple[str, float]]
    votes: Sequence[Vote]
    question: str


def collected(place: str) -> Collection:
    """Return what a ledger (a .db file or a URL) or an export (.jsonl) holds. Raises UserError if that is nothing."""
    if place.endswith(".jsonl"):
        found = _exported(Path(place))
    else:
        found = _of_ledger(ledger_at(place))
    if not found.said and not found.rankings and not found.ratings:
        raise UserError(f"votes {place}: nothing was said there yet")
    return found


def report(of: Collection, title: str) -> Page:
    """Return the page."""
    questions = list(dict.fromkeys(name for each in of.said for name in each.outcomes))
    makers = sorted({name for each in of.said for name in each.makers} | {name for row in of.rankings for name in row})
    parts = [_ratings(of.said, makers, question, len(questions) > 1) for question in questions]
    if of.rankings:
        parts.append(_ranked(of.rankings, makers))
    if of.ratings:
        parts.append(_mean_ratings(of.ratings))
    agreed = [(question, *_agreement(of.said, question)) for question in questions]
    votes = sum(each.times for each in of.said)
    people = {each.person for each in of.said if each.person}
    everybody = checks(of.votes, of.question) if of.votes else {}
    return Page(
        title,
        "limner feedback report",
        _told(of, votes, len(people)),
        (
            ("Votes", f"{votes:,}", "ties included, known and repeated questions left out"),
            ("Alpha", agreed[0][1].split("\n")[0] if agreed else ABSENT, "Krippendorff's, of the first question"),
            ("Known answers", _share(everybody.get("gold")), "answered right"),
            ("Left side", _share(everybody.get("left")), _p(everybody.get("left_p"))),
        ),
        (
            Section("Who is better", RATED, parts),
            Section("By kind of prompt", SLICED, _slices(of.said, makers, questions)),
            Section("How far people agree", AGREED, [Table(("Question", "Alpha", "Fleiss", "Cohen, mean"), agreed)]),
            Section("Each annotator", CHECKED, _annotators(of)),
        ),
    )


def _told(of: Collection, votes: int, people: int) -> str:
    who = "1 person" if people == 1 else f"{people or 'unnamed'} people"
    pairs = f"{votes:,} votes on {len({each.unit for each in of.said}):,} pairs by {who}"
    kinds = [pairs] if of.said else []
    kinds += [f"{len(of.rankings):,} rankings"] if of.rankings else []
    kinds += [f"{len(of.ratings):,} ratings"] if of.ratings else []
    return f"{', '.join(kinds)}."


RATED = (
    "On Elo's scale, 1,000 in the middle; 400 points are ten wins to one. Ranges are 95 % intervals of maximum "
    "likelihood. Bradley-Terry counts a tie as half a win; Davidson's and Rao and Kupper's have ties of their own. "
    "Elo is that of the votes in their order (K = 4) and has no interval. Where pairs were asked actively, each pair "
    "counts alike however many votes it has, but to Elo."
)
SLICED = "Bradley-Terry over the prompts of one kind, with 95 % intervals."
AGREED = (
    "Alpha is Krippendorff's, for nominal answers, with the 95 % interval of a bootstrap over pairs; Fleiss' kappa is "
    "over the pairs that as many people judged as most were; Cohen's is the mean over each two people. 0 is chance, 1 "
    "is always alike."
)
CHECKED = (
    "Known: questions whose answer is known, answered so. Again: repeated questions answered as before. Left: choices "
    "of the left side, and how probable so uneven a share is by a fair coin. Kappa: Cohen's, the mean over all others. "
    "Right: how often somebody chooses the truly better one, by noisy Bradley-Terry from how far all agree, with its "
    "95 % interval; 50 % is a coin. It takes three people to tell whose fault a disagreement is."
)


def rated(said: Iterable[Said], makers: Sequence[str], question: str, ties: Ties) -> Rating:
    """Return the worths of makers by what was said to one question."""
    first, second, votes = _pairs(said, makers, question)
    return fit_pairs(first, second, votes, len(makers), ties, RIDGE)


def _pairs(
    said: Iterable[Said], makers: Sequence[str], question: str
) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"], Float[Tensor, "pairs 3"]]:
    """Return how often each two makers met, and with which outcome."""
    place = {name: i for i, name in enumerate(makers)}
    counts: dict[tuple[int, int], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for each in said:
        a, b = (place[name] for name in each.makers)
        if question in each.outcomes and a != b:
            outcome = each.outcomes[question]
            counts[min(a, b), max(a, b)][outcome if a < b else 2 - outcome] += each.weight * each.times
    rows = torch.tensor(list(counts), dtype=torch.long).reshape(-1, 2)
    return rows[:, 0], rows[:, 1], torch.tensor(list(counts.values()), dtype=torch.float64).reshape(-1, 3)


def _ratings(said: Sequence[Said], makers: Sequence[str], question: str, several: bool) -> Table:
    fits = [rated(said, makers, question, ties) for ties in MODELS.values()]
    elo = _elo(said, question)
    rows = [
        (name, _won(said, name, question), number(elo.get(name, math.nan)), *(_points(fit, i) for fit in fits))
        for i, name in enumerate(makers)
    ]
    best = sorted(range(len(makers)), key=lambda i: -float(fits[0].worth[i]))
    head = f"Made by ({question})" if several else "Made by"
    return Table((head, "Won", "Elo", *MODELS), [rows[i] for i in best])


def _ranked(rankings: Sequence[Sequence[str]], makers: Sequence[str]) -> Table:
    """Return Plackett and Luce's worths of rankings."""
    most, place = max(map(len, rankings)), {name: i for i, name in enumerate(makers)}
    order = torch.tensor([[place[name] for name in row] + [0] * (most - len(row)) for row in rankings])
    there = torch.tensor([[True] * len(row) + [False] * (most - len(row)) for row in rankings])
    fit = fit_rankings(order, there, len(makers), RIDGE)
    best = sorted(range(len(makers)), key=lambda i: -float(fit.worth[i]))
    return Table(("Made by (ranked)", "Plackett-Luce"), [(makers[i], _points(fit, i)) for i in best])


def _mean_ratings(ratings: Sequence[tuple[str, float]]) -> Table:
    """Return the mean rating of each maker, with its 95 % interval by Student's t."""
    by_maker: dict[str, list[float]] = defaultdict(list)
    for maker, rating in ratings:
        by_maker[maker].append(rating)
    rows = []
    for maker, given in sorted(by_maker.items(), key=lambda each: -mean(each[1])):
        half = (
            stdev(given) / math.sqrt(len(given)) * float(t.ppf(0.975, len(given) - 1)) if len(given) > 1 else math.nan
        )
        ends = f"\n{number(mean(given) - half)} to {number(mean(given) + half)}" if math.isfinite(half) else ""
        rows.append((maker, number(mean(given)) + ends, f"{len(given):,}"))
    return Table(("Made by (rated)", "Mean, 1 to 5", "Ratings"), rows)


def _slices(said: Sequence[Said], makers: Sequence[str], questions: Sequence[str]) -> list[Table]:
    categories = sorted({each.category for each in said if each.category})
    if len(categories) < 2:
        return []
    fits = [
        rated([each for each in said if each.category == c], makers, questions[0], "bradley_terry") for c in categories
    ]
    rows = [(name, *(_points(fit, i) for fit in fits)) for i, name in enumerate(makers)]
    return [Table(("Made by", *categories), rows)]


def _agreement(said: Sequence[Said], question: str) -> tuple[str, str, str]:
    answers = _answers(said, question)
    alpha = krippendorff(answers)
    kappas = list(between(answers).values())
    cohen = mean(kappas) if kappas else math.nan
    ends = f"\n{number(alpha.low)} to {number(alpha.high)}" if math.isfinite(alpha.value) else ""
    return number(alpha.value) + ends, number(fleiss(of_three(answers, range(len(OUTCOMES))))), number(cohen)


def _answers(said: Sequence[Said], question: str) -> Answers:
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for each in said:
        if each.person and question in each.outcomes:
            found[each.unit][each.person] = each.outcomes[question]
    return found


def _annotators(of: Collection) -> list[Table]:
    people = sorted({vote.annotator for vote in of.votes})
    kappas, right = between(_answers(of.said, of.question)), _right(of.said, of.question)
    rows = []
    for name in people:
        found = checks([vote for vote in of.votes if vote.annotator == name], of.question)
        mine = [kappa for pair, kappa in kappas.items() if name in pair]
        left = _share(found["left"]) + (f"\np = {number(found['left_p'])}" if found["left_p"] is not None else "")
        kappa = number(sum(mine) / len(mine)) if mine else ABSENT
        seconds = ABSENT if found["seconds"] is None else f"{found['seconds']:.1f} s"
        known, again = _share(found["gold"]), _share(found["repeats"])
        cells = (known, again, left, kappa, right.get(name, ABSENT), seconds, _share(found["hasty"]))
        rows.append((name, f"{found['votes']:,}", *cells))
    head = ("Annotator", "Votes", "Known", "Again", "Left", "Kappa", "Right", "Time", "Hasty")
    return [Table(head, rows)] if rows else []


def _right(said: Sequence[Said], question: str) -> dict[str, str]:
    """Return how probably each of those who judged what others judged chooses the truly better one, in words."""
    return {
        name: f"{quantity(value, 'rate')}\n{quantity(low, 'rate')} to {quantity(high, 'rate')}"
        for name, (value, low, high) in right_of(_answers(said, question)).items()
    }


def _of_ledger(ledger: Ledger) -> Collection:
    """Return the votes of a ledger; what was known or repeated says who is reliable, and not who is better."""
    votes, items = list(ledger.votes()), ledger.board.items
    said = []
    for vote in votes:
        if vote.source in ("random", "active"):
            a, b = (items[id] for id in vote.items)
            outcomes = {name: 1 if choice in TIES else 2 * int(choice) for name, choice in vote.choices.items()}
            said.append(
                Said(vote.task, vote.annotator, (a.source, b.source), str(a.facts.get("category", "")), outcomes)
            )
    questions = next((list(vote.choices) for vote in votes), [OVERALL])
    rankings = [[items[id].source for id in order] for order in ledger.orders()]
    rated = [each for each in ledger.answers("vote") if each.task.kind == "rate" and each.assignment.source != "repeat"]
    ratings = [
        (items[each.task.items[0]].source, float(next(iter(each.payload["ratings"].values())))) for each in rated
    ]
    if any(vote.source == "active" for vote in votes):
        said = balanced(said)
    return Collection(said, rankings, ratings, votes, questions[0])


def balanced(said: Sequence[Said]) -> list[Said]:
    """Return votes weighed so that each pair counts alike, however often it was asked about.

    Of a pair with n votes each counts U / (n sum of 1 / n), U the pairs: together as many as independent votes that say
    as much. Active asking returns to pairs that people differ about, which would pull everybody's worth to the middle.
    """
    count: Counter[tuple[str, str]] = Counter()
    for each in said:
        count.update(dict.fromkeys(((each.unit, name) for name in each.outcomes), each.times))
    share = len(count) / sum(1 / n for n in count.values()) if count else 1.0
    return [replace(each, weight=share / count[each.unit, next(iter(each.outcomes))]) for each in said]


def _exported(path: Path) -> Collection:
    """Return what is in an export, whose rows have counts and not who said what."""
    said, rankings, ratings = list[Said](), list[Sequence[str]](), list[tuple[str, float]]()
    active = False
    for where, row in _rows(path):
        asked = row.get("asked")
        active |= isinstance(asked, list) and "active" in asked
        if "rank" in row and "sources" in row:
            rankings.append([str(name) for name in row["sources"]])
        elif "ratings" in row and "source" in row:
            # of several people's the mean is known
            ratings += [(str(row["source"]), float(next(iter(row["ratings"].values()))))] * int(row["n"])
        else:
            said += _counted(row, where)
    return Collection(balanced(said) if active else said, rankings, ratings, (), OVERALL)


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for line, text in read_lines(path, f"votes {path}"):
        where = f"votes {path}, line {line}"
        yield where, parse_object(text, where)


def _counted(row: Mapping[str, Any], where: str) -> Iterator[Said]:
    """Yield the votes that a row has counts of."""
    names = (("votes_a",), ("ties_good", "ties_bad"), ("votes_b",))
    try:
        dims: Mapping[str, Mapping[str, Any]] = row.get("dims") or {OVERALL: row}
        makers = str(row["source_a"]), str(row["source_b"])
        unit = json.dumps([row["media_a"], row["media_b"], row["prompt"]])
        for question, counts in dims.items():
            for outcome, parts in enumerate(names):
                times = sum(int(counts[part]) for part in parts)
                if times:
                    yield Said(unit, "", makers, str(row.get("category", "")), {question: outcome}, times)
    except KeyError as error:
        raise UserError(f"{where}: no row of an export of `limner annotate`: it has no {error}") from error
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: no row of an export of `limner annotate` ({error})") from error


def _elo(said: Sequence[Said], question: str) -> dict[str, float]:
    """Return Elo's ratings, in the order of the votes, by the package evalica."""
    from evalica import Winner, elo

    winners = (Winner.X, Winner.Draw, Winner.Y)
    votes = [each for each in said if question in each.outcomes and each.makers[0] != each.makers[1]]
    rows = [(*each.makers, winners[each.outcomes[question]]) for each in votes for _ in range(each.times)]
    if not rows:
        return {}
    first, second, won = zip(*rows, strict=True)
    return {str(name): float(score) for name, score in elo(first, second, won, initial=MIDDLE, k=4).scores.items()}


def _won(said: Sequence[Said], name: str, question: str) -> str:
    """Return the share of its votes that a maker won, a tie half, and how many they are."""
    won = total = 0.0
    count = 0
    for each in said:
        if question in each.outcomes and name in each.makers and each.makers[0] != each.makers[1]:
            points = 1 - each.outcomes[question] / 2
            won += each.weight * each.times * (points if each.makers[0] == name else 1 - points)
            total += each.weight * each.times
            count += each.times
    return f"{quantity(won / total, 'rate')}\nof {count:,}" if total else ABSENT


def _points(fit: Rating, i: int) -> str:
    low, high = (MIDDLE + ELO * end for end in fit.interval(i))
    return f"{number(MIDDLE + ELO * float(fit.worth[i]))}\n{number(low)} to {number(high)}"


def _share(value: float | None) -> str:
    return ABSENT if value is None else quantity(value, "rate")


def _p(value: float | None) -> str:
    return "of choices" if value is None else f"p = {number(value)} by a fair coin"
