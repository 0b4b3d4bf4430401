"""Reward expressions: their text, their arithmetic, and what they ask of judges. Values by hand."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from limner.core.errors import UserError
from limner.core.media import Images, Media
from limner.core.types import Composed, Prompt, RewardOutput
from limner.rewards.algebra.compose import Composition, Judge
from limner.rewards.algebra.functions import Gate, Group, Lexicographic, Rank, Scheduled, Worst
from limner.rewards.algebra.named import FUNCTIONS
from limner.rewards.algebra.parse import parse
from limner.rewards.algebra.tree import Condition, Expression, Leaf, Part, leaf, leaves

MEDIA = Images(torch.zeros(4, 3, 2, 2))
PROMPTS = [Prompt("a"), Prompt("a"), Prompt("b"), Prompt("b")]
GROUP = torch.tensor([0, 0, 1, 1])
COLUMNS = {
    "a": torch.tensor([1.0, 2.0, 3.0, 4.0]),
    "b": torch.tensor([10.0, 0.0, -4.0, 2.0]),
    "p": torch.tensor([0.25, 1.0, 0.0, 0.5]),
    "p/uncertainty": torch.tensor([0.1, 0.2, 0.3, 0.4]),
    "b/part": torch.tensor([5.0, 6.0, 7.0, 8.0]),
}
CALLS: Counter[str] = Counter()


def judge(name: str, columns: Mapping[str, Tensor] = COLUMNS) -> Judge:
    def answer(media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        CALLS[name] += 1
        parts = {key.partition("/")[2]: value for key, value in columns.items() if key.startswith(f"{name}/")}
        uncertainty = parts.pop("uncertainty", None)
        return RewardOutput(columns[name], columns[name].isfinite(), parts, uncertainty)

    return answer


def composition(text: str, columns: Mapping[str, Tensor] = COLUMNS) -> Composition:
    expression = parse(text)
    return Composition(expression, {leaf: judge(leaf.name, columns) for leaf in leaves(expression)})


def total(text: str, step: int = 0, memory: dict | None = None, columns: Mapping[str, Tensor] = COLUMNS) -> Composed:
    found = composition(text, columns)
    return found.total(found.columns(MEDIA, PROMPTS), GROUP, step, memory)


VALUES = {
    "a": [1.0, 2.0, 3.0, 4.0],
    "2 * a - b / 4 + 1": [0.5, 5.0, 8.0, 8.5],
    "3 - a": [2.0, 1.0, 0.0, -1.0],
    "-a": [-1.0, -2.0, -3.0, -4.0],
    "a + a": [2.0, 4.0, 6.0, 8.0],
    "b.part": [5.0, 6.0, 7.0, 8.0],
    "a * p": [0.25, 2.0, 0.0, 2.0],
    "a ** 2 * p ** 0.5": [0.5, 4.0, 0.0, 16 * 0.5**0.5],
    "(a - 2) * p": [0.0, 0.0, 0.0, 1.0],
    "gate(a, p >= 0.5)": [0.0, 2.0, 0.0, 4.0],
    "gate(a, p >= 0.5, floor=-1)": [-1.0, 2.0, -1.0, 4.0],
    "gate(a, p >= 0.5, soft=0.25)": [x / (1 + math.exp(-(c - 0.5) / 0.25)) for x, c in zip([1, 2, 3, 4], [0.25, 1, 0, 0.5], strict=True)],  # noqa: E501
    "worst(a, b, p)": [0.25, 0.0, -4.0, 0.5],
    "pessimistic(a, b)": [1.0, 0.0, -4.0, 2.0],  # of two, the mean less the population's std is the less
    "pessimistic(a, b, k=0.5, ddof=1)": [5.5 - 9 / 8**0.5, 1 - 1 / 2**0.5, -0.5 - 3.5 / 2**0.5, 3 - 1 / 2**0.5],
    "pessimistic(a, b, k=0.5, ddof=1, power=2)": [5.5 - 81 / 4, 0.0, -0.5 - 49 / 4, 2.0],
    "pessimistic(p, k=2)": [0.05, 0.6, -0.6, -0.3],
    "logistic(a, slope=2, midpoint=3)": [1 / (1 + math.exp(-2 * (x - 3))) for x in (1, 2, 3, 4)],
    "clip(b, low=-1, high=3)": [3.0, 0.0, -1.0, 2.0],
    "rank(b)": [1.0, 0.0, 0.0, 1.0],
    "group(a)": [-(0.5**0.5), 0.5**0.5, -(0.5**0.5), 0.5**0.5],
    "group(b, epsilon=1)": [5 / (50**0.5 + 1), -5 / (50**0.5 + 1), -3 / (18**0.5 + 1), 3 / (18**0.5 + 1)],
    "group(a, epsilon=2, trim=0.5)": [-0.5, 0.0, -0.5, 0.0],  # the better half alone: its own mean, and no spread
    "lexicographic(p, a, tolerance=0.6)": [1.0 * (0.25 - 1 > -0.6), 1.0, 0.0, 1.0],
    "scheduled(a, first=1, last=3, steps=4)": [1.0, 2.0, 3.0, 4.0],
}  # fmt: skip


@pytest.mark.parametrize("text", VALUES)
def test_a_total_by_hand(text: str) -> None:
    found = total(text)
    assert found.valid.all()
    torch.testing.assert_close(found.total, torch.tensor(VALUES[text]), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("text", VALUES)
def test_what_is_written_is_read_again(text: str) -> None:
    assert parse(str(parse(text))) == parse(text)


def test_python_and_text_say_the_same() -> None:
    a, p = leaf("a"), leaf("p")
    assert (
        0.5 * a + p / 4 - 1 == parse("0.5 * a + 0.25 * p - 1") and str(0.5 * a + p / 4 - 1) == "0.5 * a + 0.25 * p - 1"
    )
    assert 2 - a == parse("2 - a") and str(-a + p) == "-a + p"
    assert a**0.3 * p**0.7 == parse("a ** 0.3 * p ** 0.7")
    assert Gate((a,), p >= 0.5, soft=0.1) == parse("gate(a, p >= 0.5, soft=0.1)")
    assert Gate((a,), Condition(p, 0.5)).parts == (a, p)
    assert Worst((a, Rank((p,)))) == parse("worst(a, rank(p))")
    assert leaf("ocr", metric="exact") == parse('ocr(metric="exact")') and str(leaf("ocr", k=2)) == "ocr(k=2)"
    assert Part(leaf("scenes"), "count") == parse("scenes.count")
    assert hash(parse("a + b")) == hash(parse("a + b")) and a + p != p


FILES = {
    "my_file.py:mine": Leaf("my_file.py:mine"),
    "../x/my-file.py:mine": Leaf("../x/my-file.py:mine"),
    "'a folder/f.py:mine'": Leaf("a folder/f.py:mine"),
    "f.py:mine(scale=2)": Leaf("f.py:mine", (("scale", 2),)),
    "f.py:mine.part": Part(Leaf("f.py:mine"), "part"),
}


@pytest.mark.parametrize("text", FILES)
def test_functions_of_yours(text: str) -> None:
    assert parse(text) == FILES[text] == parse(str(FILES[text]))
    (found,) = leaves(parse(f"gate(0.5 * {text} + b, {text} >= 1)"))[:1]
    assert found.name.endswith("f.py:mine") or found.name.endswith("file.py:mine")
    assert found.column == "mine(scale=2)" if found.settings else found.column == "mine"


atoms = st.sampled_from([leaf("a"), leaf("p"), leaf("ocr", metric="x"), Part(leaf("b"), "part"), leaf("f.py:g")])
numbers = st.integers(-40, 40).filter(bool).map(lambda x: x / 8)


def grown(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    return st.one_of(
        st.builds(lambda x, y, w: x + w * y, inner, inner, numbers),
        st.builds(lambda x, w: x - w, inner, numbers),
        st.builds(lambda x, y: Worst((x, y)), inner, inner),
        st.builds(lambda x, c, t: Gate((x,), c >= t, soft=0.5), inner, inner, numbers),
        st.builds(lambda x, y, w: Worst((x, y)) ** abs(w) * y, atoms, atoms, numbers),
        st.builds(lambda x: Scheduled((x,), first=0.5), inner),
        st.builds(lambda x, y: Lexicographic((x, Group((y,)))), inner, inner),
    )


@settings(max_examples=100)
@given(st.recursive(atoms, grown, max_leaves=4))
def test_any_expression_reads_back(expression: Expression) -> None:
    assert parse(str(expression)) == expression


def test_a_minus_is_no_part_of_a_file() -> None:
    assert parse("-f.py:g") == -leaf("f.py:g") and parse("2 * a -my-f.py:g") == 2 * leaf("a") - leaf("my-f.py:g")
    for odd in (leaf("-f.py:g"), 0.5 * leaf("-f.py:g")):
        assert parse(str(odd)) == odd


def test_every_judge_is_asked_once() -> None:
    CALLS.clear()
    found = total("0.5 * a + gate(a, b.part >= 6) - worst(a, b, p)")
    assert CALLS == {"a": 1, "b": 1, "p": 1} and found.valid.all()


def test_contributions_add_up() -> None:
    found = total("0.5 * a - 3 * gate(b, p >= 0.5) + 2 * p")
    assert list(found.terms) == ["a", "gate(b, p >= 0.5)", "p"]
    assert [term.weight for term in found.terms.values()] == [0.5, -3.0, 2.0]
    contributions = [term.weight * term.value for term in found.terms.values()]
    assert torch.equal(sum(contributions[1:], contributions[0]), found.total)
    assert list(total("worst(a, b)").terms) == ["worst(a, b)"]


RANGES = "power must be above 0, and ddof from 0 to below the number of expressions"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pessimistic(a, ddof=2)", RANGES),
        ("pessimistic(a, b, ddof=-1)", "ddof must be at least 0 and finite, got -1"),
        ("pessimistic(a, power=0)", RANGES),
    ],
)
def test_settings_of_an_ensemble_have_their_range(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse(text)


@pytest.mark.parametrize("text", ["group(a, epsilon=-1)", "group(a, trim=1)", "group(a, trim=-0.5)"])
def test_settings_of_a_group_have_their_range(text: str) -> None:
    with pytest.raises(UserError, match="epsilon must be at least 0, and trim a share"):
        parse(text)


@pytest.mark.parametrize("text", ["a + b", "a * p + 0 * b", "gate(a, b >= -9)", "worst(a, b)", "rank(a) + b"])
def test_a_sample_counts_only_if_all_judged_it(text: str) -> None:
    columns = COLUMNS | {"a": torch.tensor([1.0, math.nan, 3.0, 4.0]), "b": torch.tensor([1.0, 1.0, math.nan, 1.0])}
    found = total(text, columns=columns)
    assert found.valid.tolist() == [True, False, False, True]
    assert found.total.isnan().tolist() == [False, True, True, False]


def test_a_sample_that_is_invalid_is_compared_with_nobody() -> None:
    columns = COLUMNS | {"b": torch.tensor([1.0, math.nan, 1.0, 1.0])}
    found = total("rank(a) + 0 * b", columns=columns)
    assert found.total[[0, 2, 3]].tolist() == [0.5, 0.0, 1.0]


def test_running_statistics_are_those_of_all_samples_so_far() -> None:
    memory: dict = {}
    first = total("running(a)", 0, memory).total
    torch.testing.assert_close(first, (COLUMNS["a"] - 2.5) / 1.25**0.5)
    later = COLUMNS | {"a": torch.tensor([9.0, -3.0, math.nan, 0.5])}
    second = total("running(a)", 1, memory, later).total
    seen = torch.tensor([1.0, 2.0, 3.0, 4.0, 9.0, -3.0, 0.5])
    torch.testing.assert_close(second[:2], (later["a"][:2] - seen.mean()) / seen.std(correction=0))


def test_a_multiplier_rises_while_its_constraint_is_broken_and_falls_when_it_holds() -> None:
    """p is .4375 on average; asked for .75, the multiplier rises by .5 x .3125 each time; asked for 0, it falls."""
    memory: dict = {}
    text, slack = "constrained(a, p >= 0.75, rate=0.5, limit=0.2)", (COLUMNS["p"] - 0.75).clamp(max=0)
    for multiplier in (0.0, 0.15625, 0.2):
        torch.testing.assert_close(total(text, 0, memory).total, COLUMNS["a"] + multiplier * slack)
    fine = COLUMNS | {"p": torch.ones(4)}
    assert torch.equal(total(text, 0, memory, fine).total, COLUMNS["a"])
    torch.testing.assert_close(total(text, 0, memory).total, COLUMNS["a"] + (0.2 - 0.125) * slack)


def test_a_constraint_on_a_mean_is_its_lagrangian_and_is_damped_by_what_is_short_now() -> None:
    """p is .4375 on average: .3125 short of .75, or .0625 above .375; each sample counts by p - threshold."""
    settings = "rate=0.5, limit=2, proportional=4, start=1, mean=True"
    memory: dict = {}
    for multiplier in (2.0, 2.0):  # the limit: 1 + 4 x .3125 is above it
        found = total(f"constrained(a, p >= 0.75, {settings})", 0, memory).total
        torch.testing.assert_close(found, COLUMNS["a"] + multiplier * (COLUMNS["p"] - 0.75))
    memory = {}
    for multiplier in (1 - 4 * 0.0625, 1 - 0.5 * 0.0625 - 4 * 0.0625):
        found = total(f"constrained(a, p >= 0.375, {settings})", 0, memory).total
        torch.testing.assert_close(found, COLUMNS["a"] + multiplier * (COLUMNS["p"] - 0.375))


def test_a_win_rate_asks_about_every_pair_of_a_group() -> None:
    """By brightness, a tie half; of four samples in groups of three and one, the last has nobody to beat."""
    asked = []

    def brighter(a: Media, b: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        x, y = (media.frames().mean((1, 2, 3, 4)) for media in (a, b))
        asked.append([prompt.text for prompt in prompts])
        share = 0.5 + 0.5 * (x - y).sign()
        return RewardOutput(share.masked_fill(y > 0.85, torch.nan), y <= 0.85)

    wins = Composition(parse("win_rate(brighter) + 0 * a"), {leaf("a"): judge("a")}, {leaf("brighter"): brighter})
    media = Images(torch.tensor([0.2, 0.2, 0.6, 0.9]).view(4, 1, 1, 1).expand(4, 3, 2, 2))
    group = torch.tensor([0, 0, 0, 1])
    columns = wins.columns(media, PROMPTS) | wins.comparisons(media, PROMPTS, group)
    assert columns["brighter"][:3].tolist() == [0.25, 0.25, 1.0] and columns["brighter"][3].isnan()
    assert asked == [["a", "a", "a"]] and wins.total(columns, group).valid.tolist() == [True, True, True, False]
    columns = wins.comparisons(media, PROMPTS, torch.zeros(4, dtype=torch.long))  # pairs with the last are not told
    assert columns["brighter"][:3].tolist() == [0.25, 0.25, 1.0] and columns["brighter"][3].isnan()


def test_who_compares_stands_in_a_win_rate_and_who_scores_does_not() -> None:
    def never(a: Media, b: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        raise AssertionError

    with pytest.raises(UserError, match="a compares, and stands in win_rate"):
        Composition(parse("a + b"), {leaf("b"): judge("b")}, {leaf("a"): never})
    with pytest.raises(UserError, match="a does not compare: use rank"):
        Composition(parse("win_rate(a)"), {leaf("a"): judge("a")})


def test_a_gate_opens_at_a_number_that_float32_knows_no_better() -> None:
    """0.7 in float32 is below 0.7; a judge that says it has reached the threshold. The next lower number has not."""
    said = torch.tensor([0.7, 0.7, 0.7, 0.7])
    said[1:] = said[1:].nextafter(torch.zeros(3))
    columns = {"a": torch.ones(4, dtype=torch.float64), "p": said.double()}
    assert total("gate(a, p >= 0.7)", columns=columns).total.tolist() == [1, 0, 0, 0]


def test_what_is_compared_within_a_group_is_compared_exactly() -> None:
    columns = {"a": torch.tensor([1.7e9, 1.7e9 + 1, 1e30, 1.1e30], dtype=torch.float64)}
    assert total("rank(a)", columns=columns).total.tolist() == [0, 1, 0, 1]
    half = 1 / math.sqrt(2)
    assert total("group(a)", columns=columns).total.tolist() == pytest.approx([-half, half, -half, half], rel=1e-3)
    assert total("a - 1.7e9", columns=columns).total.tolist()[:2] == [0, 1]


def test_a_schedule_moves_and_stays() -> None:
    text = "scheduled(a, first=1, last=3, steps=4)"
    weights = [float(total(text, step).total[0]) for step in (0, 1, 4, 9)]
    assert weights == [1.0, 1.5, 3.0, 3.0]


def test_gradients_reach_the_judges_answers() -> None:
    values = torch.tensor([0.2, 0.4, 0.6, 0.8], dtype=torch.float64, requires_grad=True)
    text = "0.5 * a + gate(a, a >= 0.5, soft=0.2) * a ** 2 + worst(a, p) + logistic(a)"
    parts = COLUMNS | {"p": torch.full((4,), 0.5, dtype=torch.float64)}

    def of(a: Tensor) -> Tensor:
        return composition(text).total({**parts, "a": a}, GROUP).total

    assert torch.autograd.gradcheck(of, (values,))


def test_relative_rewards_judge_no_single_picture() -> None:
    assert composition("a + p")(MEDIA, PROMPTS).score.tolist() == [1.25, 3.0, 3.0, 4.5]
    for text in ("rank(a)", "a + 0.1 * running(b)", "scheduled(a)", "constrained(a, p >= 0.5)", "lexicographic(a, b)"):
        with pytest.raises(UserError, match=r"name what to evaluate by with --evaluation.reward"):
            composition(text)(MEDIA, PROMPTS)


BAD = {
    "": "this is no expression",
    "a:0.5": "a weight is written 0.5 \\* a",
    "a +": "this is no expression",
    "0.5": "names no judge",
    "0.5 + 1": "names no judge",
    "a / b": "cannot read 'a / b'",
    "a / 0": "cannot read 'a / 0'",
    "2 ** a": "cannot read '2 \\*\\* a'",
    "a if b else c": "cannot read 'a if b else c'",
    "[a]": "cannot read",
    "a >= 1": "cannot read 'a >= 1'",
    "__import__('os').system('x')": "cannot read",
    "f.py:g(lambda: 1)": "unknown function 'f.py:g'",
    "f.py:g(x=[1])": r"cannot read '\[1\]'",
    "(a + b).part": "cannot read",
    "wrst(a, b)": "unknown function 'wrst'; did you mean 'worst'",
    "worst(a)": "worst\\(...\\): takes 2 or more expressions, got 1",
    "rank(a, b)": "rank\\(...\\): takes 1 expression, got 2",
    "gate(a, p)": "gate\\(...\\) takes one condition",
    "gate(a, p <= 1)": "a condition is EXPRESSION >= NUMBER, got p <= 1",
    "gate(a, p >= b)": "a condition is EXPRESSION >= NUMBER, got p >= b",
    "win_rate(a + b)": "takes a judge that compares",
    "rank(a, p >= 1)": "rank\\(...\\) takes no condition",
    "clip(a, 0, 1)": "takes expressions; give numbers by name: low, high",
    "clip(a, lo=1)": "clip has no setting 'lo'; did you mean 'low'",
    "a ** -1": "powers must be positive",
    "group(a) * b": "reward group\\(a\\) is negative for half of the samples",
    "(group(a) + 1) * b": "negative for half of the samples",
    "True * a": "cannot read 'True'",
}


@pytest.mark.parametrize("text", BAD)
def test_bad_expressions(text: str) -> None:
    with pytest.raises(UserError, match=BAD[text]):
        parse(text)


def test_bad_compositions() -> None:
    with pytest.raises(UserError, match="b has no component 'prt' \\(it reports: part\\)"):
        total("b.prt")
    with pytest.raises(UserError, match="a states no uncertainty"):
        total("pessimistic(a)")
    with pytest.raises(UserError, match="two rewards are called 'mine'"):
        Composition(parse("one.py:mine + two.py:mine"), {})


def test_the_docs_name_every_function() -> None:
    text = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text(encoding="utf-8")
    assert [name for name in FUNCTIONS if f"| `{name}(" not in text] == []
