import math
import random
from collections import Counter

import pytest
from scipy.integrate import quad
from scipy.stats import beta

from limner.core.errors import UserError
from limner.feedback.choosing import APART, Asking, Tally, apart, choose, chosen, expected_gain, settled
from limner.feedback.task import Task, held_out

TASKS = [Task("pair", f"p{i}", (f"a{i}", f"b{i}")) for i in range(6)]


@pytest.mark.parametrize(("first", "second"), [(0, 0), (3, 1), (0.5, 7.5), (20, 20)])
def test_the_gain_is_the_mutual_information_of_the_next_vote(first, second):
    """Against the integral over theta of the entropies, by quadrature."""
    density = beta(1 + first, 1 + second)

    def entropy(p):
        return -sum(q * math.log(q) for q in (p, 1 - p) if q > 0)

    known, _ = quad(lambda p: density.pdf(p) * entropy(p), 0, 1)
    assert expected_gain(Tally(first, second)) == pytest.approx(entropy(density.mean()) - known, abs=1e-8)


def test_a_pair_is_settled_when_one_side_is_surely_better_or_it_had_its_votes():
    """By hand: P(theta < 1/2 | n to 0) = 2^-(n+1): 1/16 after three, 1/32 after four."""
    asking = Asking(least=3, most=7, sure=0.95)
    assert not settled(Tally(3, 0), asking) and settled(Tally(4, 0), asking) and settled(Tally(0, 4), asking)
    assert not settled(Tally(3, 3), asking) and settled(Tally(4, 3), asking)
    assert not settled(Tally(2, 0), Asking(least=3, most=7, sure=0.5))


def drawn(asking, seen=(), answered=(), repeated=(), tallies=None, tasks=TASKS, count=4000):
    tallies = {task.id: Tally() for task in tasks} | (tallies or {})
    found = [choose(tasks, tallies, seen, answered, repeated, asking, random.Random(i)) for i in range(count)]
    return Counter((each[0].id, each[1], each[2]) for each in found if each)


def test_pairs_with_the_fewest_votes_and_hands_come_first_and_the_propensity_is_their_frequency():
    asking = Asking(most=3, gold=0.0, repeat=0.0)
    found = drawn(asking, seen={TASKS[0].id}, tallies={TASKS[1].id: Tally(1, 0), TASKS[2].id: Tally(leases=1)})
    assert {id for id, *_ in found} == {task.id for task in TASKS[3:]}
    for (_, source, propensity), times in found.items():
        assert source == "random" and times / 4000 == pytest.approx(propensity, abs=0.03)


def test_active_draws_what_tells_most_and_explores_and_its_propensities_are_true():
    """Of six prompts p0 is held out, which tells no less than p1: it is asked as often as by chance, and said to be."""
    assert [held_out(task.prompt) for task in TASKS] == [True, *[False] * 5]
    asking = Asking(most=9, gold=0.0, repeat=0.0, active=True, explore=0.3, sure=0.99)
    found = drawn(asking, tallies={task.id: Tally(1, 1) for task in TASKS[2:]})
    assert sum(found.values()) == 4000
    for (id, source, propensity), times in found.items():
        assert source == ("random" if id == TASKS[0].id else "active")
        assert times / 4000 == pytest.approx(propensity, abs=0.03)
        wanted = 1 / 6 if source == "random" else 5 / 6 * (0.3 / 5 + 0.7 * (id == TASKS[1].id))
        assert propensity == pytest.approx(wanted)


def test_pairs_of_held_out_prompts_are_drawn_from_a_pool_by_chance():
    """Prompts p0 and p7 are held out of eight, so that of four one is of these; against how often it happens."""
    prompts = ["p0", "p1", "p2", "p7", "p3", "p4", "p5", "p6"]
    assert [i for i, prompt in enumerate(prompts) if held_out(prompt)] == [0, 3]
    gain = [0.9, 0.1, 0.5, 0.0, 0.4, 0.3, 0.2, 0.6]
    often, told = Counter(), {}
    for seed in range(2000):
        asked = apart(prompts, gain, 4, 0.3, random.Random(seed))
        assert len({i for i, *_ in asked}) == 4 and asked == sorted(asked)
        assert all(why == ("random" if i in (0, 3) else "active") for i, why, _ in asked)
        often.update(i for i, *_ in asked)
        told |= {i: p for i, _, p in asked}
    assert told[0] == told[3] == 0.5
    for i in often:
        assert told[i] == pytest.approx(often[i] / 2000, abs=0.04)


def test_known_ones_and_repetitions_come_at_their_shares():
    known = [Task("pair", f"g{i}", (f"x{i}", f"y{i}"), better=0) for i in range(3)]
    answered = [task.id for task in TASKS[:2]] + ["later"] * APART
    tasks = [*TASKS, *known, Task("pair", "later", ("l", "m"))]
    answered[2:] = [tasks[-1].id] * APART
    found = drawn(Asking(gold=0.1, repeat=0.2), TASKS[:2], answered, {TASKS[1].id}, tasks=tasks)
    total = Counter()
    for (_, source, _), times in found.items():
        total[source] += times
    assert total["gold"] / 4000 == pytest.approx(0.1, abs=0.02)
    assert total["repeat"] / 4000 == pytest.approx(0.2, abs=0.02)
    assert {id for id, source, _ in found if source == "repeat"} == {TASKS[0].id}


def test_when_all_is_settled_nothing_is_asked():
    assert not drawn(Asking(gold=0.0), tallies={task.id: Tally(1, 0) for task in TASKS}, count=5)


def test_impossible_shares_are_refused():
    with pytest.raises(UserError, match="gold must be"):
        Asking(gold=1.5)


@pytest.mark.parametrize("explore", [0.0, 0.3, 1.0])
def test_how_probable_it_was_to_ask_a_pair_of_a_pool(explore):
    """Against how often it happens in 3,000 draws; two pairs that tell the same much go in order."""
    gain = [0.1, 0.5, 0.3, 0.5, 0.0, 0.2, 0.4, 0.05]
    often, told = Counter(), {}
    for seed in range(3000):
        asked, propensity = chosen(gain, 3, explore, random.Random(seed))
        assert len(asked) == 3 and asked == sorted(set(asked))
        often.update(asked)
        told |= dict(zip(asked, propensity, strict=True))
    for i in often:
        assert told[i] == pytest.approx(often[i] / 3000, abs=0.03)
    if explore == 0:
        assert set(often) == {1, 3, 6} and set(told.values()) == {1.0}
