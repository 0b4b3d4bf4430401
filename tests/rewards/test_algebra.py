import math
from collections import Counter
from collections.abc import Mapping, Sequence

import pytest
import torch

from limner.core.errors import UserError
from limner.core.types import Images, Media, Prompt, RewardOutput
from limner.rewards.algebra import Judge, weighted_sum

MEDIA = Images(torch.zeros(3, 3, 2, 2))
PROMPTS = [Prompt("a"), Prompt("b"), Prompt("c")]
CALLS: Counter[str] = Counter()


def constant(name: str, scores: Sequence[float], parts: Mapping[str, torch.Tensor] | None = None) -> Judge:
    def judge(media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        CALLS[name] += 1
        score = torch.tensor(scores)
        return RewardOutput(score, score.isfinite(), parts or {})

    return judge


def test_total_is_the_weighted_sum_of_columns_judged_once() -> None:
    CALLS.clear()
    judges = {"a": constant("a", [1.0, 2.0, 3.0]), "b": constant("b", [10.0, 0.0, -4.0])}
    output = weighted_sum(judges, {"b": 0.25, "a": -2.0})(MEDIA, PROMPTS)
    assert output.score.tolist() == [0.5, -4.0, -7.0] and output.valid.all()
    assert {name: column.tolist() for name, column in output.components.items()} == {
        "a": [1.0, 2.0, 3.0],
        "b": [10.0, 0.0, -4.0],
    }
    assert CALLS == {"a": 1, "b": 1}


def test_a_sample_counts_only_if_all_judged_it() -> None:
    judges = {"a": constant("a", [1.0, math.nan, 3.0]), "b": constant("b", [1.0, 2.0, math.nan])}
    output = weighted_sum(judges, {"a": 1.0, "b": 0.0})(MEDIA, PROMPTS)
    assert output.valid.tolist() == [True, False, False]
    assert output.score[0] == 1 and output.score[1:].isnan().all()
    assert output.components["a"].isnan().tolist() == [False, True, False]
    assert output.components["b"].tolist()[:2] == [1.0, 2.0]


def test_parts_are_columns_under_their_judge() -> None:
    judges = {"scenes": constant("scenes", [1.0, 0.0, 1.0], {"count": torch.tensor([1.0, 1.0, 1.0])})}
    output = weighted_sum(judges, {"scenes": 5.0})(MEDIA, PROMPTS)
    assert list(output.components) == ["scenes", "scenes/count"] and output.score.tolist() == [5.0, 0.0, 5.0]


@pytest.mark.parametrize(
    ("names", "weights", "message"),
    [
        ([], {}, "no reward: name at least one"),
        (["a"], {"b": 1.0}, r"rewards \['a'\] and weights \['b'\] must have the same names"),
        (["a"], {"a": math.nan}, "reward 'a': its weight must be a finite number, got nan"),
    ],
)
def test_bad_input(names: list[str], weights: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        weighted_sum({name: constant(name, [0.0] * 3) for name in names}, weights)
