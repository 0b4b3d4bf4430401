"""Two people of opposite tastes, from their votes to two models, by the commands of docs/feedback.md."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from limner.cli import main
from limner.core.media import Images
from limner.evaluate.store import load
from limner.rewards.learned.reward import Learned
from run.miniature import Miniature
from run.test_reward_models import SMALL, collection
from run.typed import annotating, brighter, darker, typed

HEAD = "## Two people, two models"
PEOPLE = ("annotator-1", "annotator-2")
"""Of whom the first likes what is bright, the second what is dark."""
LEVEL = 0.01
"""At which it is refused that two models draw alike; 144 pictures of each, for a difference of a third of its spread is
found then in 98 % of cases."""
TINY = (
    *("--steps", "6", "--prompts_per_step", "2", "--group_size", "8", "--micro_batch", "16", "--sampler.steps", "4"),
    *("--optimizer.lr", "2e-2", "--model.train.rank", "4", "--model.train.alpha", "12", "--algorithm.num_times", "2"),
    *(
        "--algorithm.decay_rate",
        "0.2",
        "--evaluation.seeds",
        "48",
        "--evaluation.every",
        "0",
        "--evaluation.ode_steps",
        "0",
    ),
    "--quiet",
)


def pictures(place: Path) -> None:
    """Write pairs of grey pictures, whose prompts a list beside them says."""
    rows = [json.loads(line) for line in collection(place, 60, float).open(encoding="utf-8")]
    listed = [
        {"file_name": row[f"media_{side}"], "prompt": row["prompt"], "source": side} for row in rows for side in "ab"
    ]
    (place / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in listed), encoding="utf-8")
    (place / "pairs.jsonl").unlink()  # else it would say what is asked


def liked(name: str, run: str) -> Float[Tensor, " pictures"]:
    """Return what each picture that a run draws after training, by prompt and seed, is worth to somebody."""
    kept = load(Path(run) / "samples" / "after-sampler")
    assert kept is not None
    prompts = [prompt for prompt in kept.prompts for _ in kept.seeds]
    paths = sorted((Path(run) / "samples" / "after-sampler").glob("*.png"))
    levels = torch.stack([torch.from_numpy(np.asarray(Image.open(path).convert("RGB")).copy()) for path in paths])
    return Learned("runs/tastes", name)(Images(levels.permute(0, 3, 1, 2)), prompts).score


def by_chance(differences: Float[Tensor, " pictures"], draws: int = 9999) -> float:
    """Return how probable a mean at least as great is if each difference might as well have the other sign.

    Of `draws` draws of signs, those that reach it, and the one that was seen (Phipson and Smyth, arXiv:1603.05766).
    """
    signs = torch.randint(2, (draws, len(differences)), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    reached = (signs.double() @ differences.double()) >= differences.double().sum() - 1e-9
    return (1 + int(reached.sum())) / (1 + draws)


def test_signs_by_hand() -> None:
    """Of 2^4 draws of signs one reaches the sum of four that are all positive, and all reach one of nothing."""
    assert abs(by_chance(torch.tensor([1.0, 2.0, 3.0, 4.0])) - 1 / 16) < 0.01
    assert by_chance(torch.zeros(4)) == 1.0 and abs(by_chance(torch.tensor([1.0, -1.0])) - 3 / 4) < 0.02


def test_two_people_of_opposite_tastes_get_two_models_from_one_base(
    miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a model that was trained for one of them draws is worth more to that one than what the other's draws.

    Both draw from the same noise. Were they alike, either of two pictures might as well be the first one's, and such a
    difference of the means would come up in less than LEVEL of all draws of signs.
    """
    asked, *commands = typed("docs/feedback.md", HEAD)
    assert [words[0] for words in (asked, *commands)] == ["annotate", "feedback", "reward", "train", "train"]
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "my_pictures")
    with annotating(asked, monkeypatch, capsys) as asking:
        assert "59 pairs of 120 items, 2 votes each" in asking.said  # of one both pictures are the same
        for token, chooses in zip(asking.tokens, (brighter, darker), strict=True):
            assert asking.answer(token, chooses) >= 59
    runs = {}
    for words in commands:
        if words[0] == "reward":
            words += [f"--{key}={value}" for key, value in SMALL.items()]
        if words[0] == "train":
            words += ["--model.path", str(miniature.model), "--prompts", str(miniature.prompts), *TINY]
            words += ["--evaluation.prompts", str(miniature.prompts)]
            runs[next(name for name in PEOPLE if name in " ".join(words))] = words[words.index("--out") + 1]
        assert main(words) == 0, words
    worth = {(name, made_for): liked(name, runs[made_for]) for name in PEOPLE for made_for in PEOPLE}
    for name, other in (PEOPLE, PEOPLE[::-1]):
        assert by_chance(worth[name, name] - worth[name, other]) < LEVEL, (name, worth)
