"""Two crews of two processes that share the tokens of each clip give one process's run, and one can go on with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from limner.algorithms.flow_grpo import FlowGRPO
from limner.build import assemble
from limner.cli import main
from limner.core.errors import UserError
from limner.diffusion.dynamics import FlowSDE
from limner.engine.processes import together
from limner.models.wan.adapter import Wan
from limner.models.wan.settings import WanSettings
from limner.policies.denoising import Sampler
from limner.recipes.named import recipe
from limner.recipes.override import override
from limner.recipes.yaml import to_yaml, written_config
from limner.training.config import Evaluation, Lora, Model, Optimizer, RunConfig
from limner.training.spread import team_of
from run.test_team import require_alike

CLIPS = WanSettings(resolution=32, num_frames=5, fps=8, max_sequence_length=8)
JUDGE = '''
import os

import torch


def late(media, prompts):
    """How much brighter the last frame is than the first, and no answer for the first of blue clips shown at once.

    Each process writes down that it was asked: of a crew one is.
    """
    with open(__file__ + ".asked", "a") as asked:
        asked.write(os.environ.get("RANK", "alone") + "\\n")
    frames = media.frames()
    scores = 100 * (frames[:, -1] - frames[:, 0]).mean((1, 2, 3))
    blue = [i for i, prompt in enumerate(prompts) if "blue" in prompt.text]
    scores[blue[:1]] = torch.nan
    return scores
'''


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run alone, and one of two crews with which one process goes on: of three prompts one crew has two."""
    place = tmp_path_factory.mktemp("runs")
    (place / "late.py").write_text(JUDGE)
    (place / "prompts.txt").write_text("a red star\na blue square\na green star\n")
    Wan.tiny(place / "base")
    config = RunConfig(
        name="clips",
        model=Model("wan", str(place / "base"), CLIPS, Lora(rank=2, alpha=4)),
        prompts=str(place / "prompts.txt"),
        reward=f"{place / 'late.py'}:late",
        algorithm=FlowGRPO(kl_weight=0.01),
        sampler=Sampler(FlowSDE(), steps=3),
        optimizer=Optimizer(lr=1e-2, ema=0.8),
        evaluation=Evaluation(str(place / "prompts.txt"), "video_flicker", seeds=1, every=1),
        steps=3,
        prompts_per_step=3,
        group_size=4,
        micro_batch=4,
        checkpoint_every=1,
        device="cpu",
        out="unused",
    )
    (place / "recipe.yaml").write_text(to_yaml(config))

    def words(out: str, more: str = "") -> list[str]:
        return ["train", str(place / "recipe.yaml"), "--out", str(place / out), "--quiet", *more.split()]

    assert main(words("one")) == 0
    (place / "late.py.asked").unlink()
    together(4, main, words("four", "--context 2 --steps 2"), __name__)
    (place / "late.py.asked").rename(place / "asked")
    assert main(words("four", "--resume")) == 0
    return place


def test_crews_that_share_clips_are_one(runs: Path) -> None:
    one, two = runs / "one", runs / "four"
    require_alike(assemble(written_config(one / "config.yaml", ())), one, two)
    assert sorted(each.name for each in one.iterdir()) == sorted(each.name for each in two.iterdir())


def test_of_a_crew_one_asks_the_judges(runs: Path) -> None:
    """But for the dry run, which each makes for itself: in two iterations one crew has a group, the other two."""
    asked = (runs / "asked").read_text().split()
    alone, first, second, other = (asked.count(rank) for rank in "1023")
    assert (first - alone, second - other) == (2, 4) and alone == other


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({}, "context 2: so many processes share the tokens of a sample, and 1 process is no multiple of that"),
        ({"shard": "all"}, "context 2 shares out tokens, and shard all weights: take one"),
        ({"precision.compile": "true"}, "context 2 exchanges tokens inside blocks: take precision.compile false"),
        ({"sampler.sizes": "[32x32]"}, "context 2 divides the tokens of one size: leave sampler.sizes out"),
    ],
)
def test_what_cannot_be_shared_is_refused(keys: Mapping[str, str], says: str) -> None:
    with pytest.raises(UserError, match=f"^{says}"):
        team_of(override(recipe("scenes"), {"context": "2", "device": "cpu", **keys}))
