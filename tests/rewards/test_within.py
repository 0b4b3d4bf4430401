"""Rewards whose terms are compared within groups, against definitions in plain Python, and what is reported of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from limner.core.errors import UserError
from limner.core.media import Images
from limner.core.types import Composed, Prompt, Scored
from limner.diffusion.dynamics import FlowSDE
from limner.judges import compose
from limner.objectives.advantage import group_advantage
from limner.policies.denoising import Sampler
from limner.recipes.named import recipe
from limner.recipes.presets import with_preset
from limner.rewards.algebra.functions import Function, Group, Rank
from limner.rewards.algebra.parse import parse
from limner.rewards.algebra.within import plain, within_groups
from rewards.test_algebra import composition, total
from toys import toy_denoiser, toy_rollout

BIG = [100.0, 7.0, 300.0, 9.0, 300.0, 8.0]
SMALL = [0.3, 0.1, 0.2, 0.1, 0.1, 0.1]
OF = [5, 2, 5, 2, 5, 2]


def compared(text: str, scale: float = 1.0) -> Composed:
    """Return a total of two rewards, the first times `scale`, of two groups of three and an invalid sample of one."""
    columns = {
        "big": scale * torch.tensor([*BIG, math.nan], dtype=torch.float64),
        "small": torch.tensor([*SMALL, 0.9], dtype=torch.float64),
    }
    return composition(text).total(columns, torch.tensor([*OF, 5]))


def pool(values: Sequence[float], row: int) -> list[float]:
    return [value for value, of in zip(values, OF, strict=True) if of == OF[row]]


def z_score(values: Sequence[float], row: int) -> float:
    spread = statistics.stdev(pool(values, row))
    return (values[row] - statistics.mean(pool(values, row))) / (spread + 1e-4) if spread else 0.0


def wins(values: Sequence[float], row: int) -> float:
    mine = values[row]
    return (sum((mine > other) + (mine == other) / 2 for other in pool(values, row)) - 0.5) / 2


@pytest.mark.parametrize(("by", "part"), [(Group, z_score), (Rank, wins)])
def test_a_reward_compared_term_by_term_is_its_definition(by: type[Function], part) -> None:
    """And no scale of a reward matters; what is reported is the sum of what was compared."""
    text = str(within_groups(parse("big + 2 * small - 7"), by))
    assert text == f"{by.name}(big) + 2 * {by.name}(small)" and str(within_groups(parse(text), by)) == text
    found = compared(text)
    assert found.total[:6].tolist() == pytest.approx([part(BIG, i) + 2 * part(SMALL, i) for i in range(6)], abs=1e-9)
    assert found.total[6].isnan() and not found.valid[6]
    torch.testing.assert_close(compared(text, 1000.0).total[:6], found.total[:6], rtol=1e-3, atol=1e-3)
    rollout = toy_rollout(Sampler(FlowSDE(), 3).policy(toy_denoiser()))
    scored = Scored(rollout, {}, found.valid, found.total, found.terms)
    assert list(found.terms) == ["big", "small"]
    assert scored.reported[:6].tolist() == [b + 2 * s for b, s in zip(BIG, SMALL, strict=True)]


def test_gdpo_is_a_batch_normalised_sum_of_z_scores() -> None:
    """b = sum of z-scores has mean 0 in each group; (b - mean) / (std + 1e-4) over the batch is the whole of GDPO."""
    run = with_preset(recipe("scenes"), "gdpo", {"reward": "big + 2 * small"})
    assert run.reward == "group(big) + 2 * group(small)"
    judged, groups = compared(run.reward), torch.tensor([*OF, 5])
    settings = run.algorithm
    found = group_advantage(
        judged.total, groups, judged.valid, settings.scale, settings.ddof, settings.epsilon, settings.trim
    )
    b = [z_score(BIG, i) + 2 * z_score(SMALL, i) for i in range(6)]
    expected = [(value - statistics.mean(b)) / (statistics.stdev(b) + 1e-4) for value in b]
    assert found[:6].tolist() == pytest.approx(expected, rel=1e-6, abs=1e-9) and found[6] == 0


def test_pref_grpo_compares_scores_and_leaves_what_compares_already() -> None:
    run = with_preset(recipe("scenes"), "pref_grpo", {"reward": "big - win_rate(judge)"})
    assert run.reward == "rank(big) - win_rate(judge)"


def test_what_is_reported_of_what_is_compared() -> None:
    shown = {
        "group(a) - 2 * rank(b) + 1": "a - 2 * b + 1",
        "rank(group(a))": "a",
        "group(a) + group(a)": "2 * a",
        "group(a) + a": "a + a",
        "a + gate(rank(b), p >= 0.5)": "a + gate(rank(b), p >= 0.5)",
        "lexicographic(a, b)": "lexicographic(a, b)",
        "0.5 * a": "0.5 * a",
    }
    assert {text: str(plain(parse(text))) for text in shown} == shown
    assert composition("group(a) + rank(b)").plain.absolute and not composition("lexicographic(a, b)").plain.absolute
    assert composition("a + gate(rank(b), p >= 0)").grouped and not composition("running(a)").grouped
    found = total("group(a) + 3")
    assert {name: (term.weight, term.value.tolist()) for name, term in found.terms.items()} == {
        "a": (1.0, [1.0, 2.0, 3.0, 4.0]),
        "1": (3.0, [1.0] * 4),
    }


def test_the_example_of_a_comparer_is_what_its_page_says() -> None:
    """Redness .8, .5, .2 and a tie with the last; a black picture meets nobody."""
    red = torch.tensor([0.8, 0.5, 0.2, 0.2, 0.0])
    pixels = torch.stack([red, (1 - red) / 2, (1 - red) / 2], 1)
    pixels[4] = 0
    media = Images(pixels[:, :, None, None].expand(5, 3, 8, 8).contiguous())
    reward = compose(f"win_rate('{Path(__file__).parents[2] / 'examples' / 'my_comparer.py'}:redder')")
    won = reward.comparisons(media, [Prompt("")] * 5, torch.zeros(5, dtype=torch.long))["redder"]
    assert won[:4].tolist() == pytest.approx([1, 2 / 3, 1 / 6, 1 / 6]) and won[4].isnan()


@pytest.mark.parametrize("name", ["mean", "std"])
def test_no_reward_takes_a_name_of_the_log(name: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(f"def {name}(media, prompts):\n    return [0.0] * len(prompts)\n")
    with pytest.raises(
        UserError, match=f"no reward can be called '{name}', for reward/{name} is the total's in the log"
    ):
        compose(f"'{tmp_path / 'mine.py'}:{name}'")
