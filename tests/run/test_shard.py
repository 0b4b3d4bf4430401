"""Two processes that hold half of the weights each give one's run, and either goes on with what the other left."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from diffusers import SD3Transformer2DModel
from safetensors.torch import load_file

from limner.build import assemble
from limner.cli import main
from limner.core.errors import UserError
from limner.engine.processes import together
from limner.recipes.named import recipe
from limner.recipes.override import override
from limner.recipes.yaml import to_yaml, written_config
from limner.training.config import Optimizer
from run.miniature import Miniature
from run.test_team import PICKY, require_alike

RUNS: Mapping[str, str] = {
    "lora": "--algorithm.num_updates 2 --optimizer.ema 0.8 --evaluation.every 1",
    "full": "--algorithm FlowGRPO --sampler.dynamics FlowSDE --algorithm.kl_weight 0.01 --model.train Full "
    "--optimizer.lr 1e-4 --precision.activation_checkpointing true",
}


def _member(arguments: list[str]) -> int:
    """Be one of two: carry out one command after the other."""
    for words in json.loads(Path(arguments[0]).read_text()):
        if code := main(words):
            return code
    return 0


@pytest.fixture(scope="module")
def runs(miniature: Miniature, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs alone, and in two processes: two iterations of three prompts, of which one process has two."""
    place = tmp_path_factory.mktemp("runs")
    (place / "picky.py").write_text(PICKY)
    config = miniature.config(place / "unused", steps=2, prompts_per_step=3, optimizer=Optimizer(lr=1e-2))
    (place / "recipe.yaml").write_text(to_yaml(config))
    start = ["train", str(place / "recipe.yaml"), "--reward", f"{place / 'picky.py'}:picky", "--micro_batch", "4"]
    start += ["--evaluation.prompts", str(miniature.prompts), "--evaluation.reward", "jpeg_size", "--quiet"]

    def words(name: str, out: str, more: str = "") -> list[str]:
        return [*start, *RUNS[name].split(), "--out", str(place / out), *more.split()]

    for name in RUNS:
        assert main(words(name, f"{name}-one")) == 0
    assert main(words("lora", "grown", "--steps 1")) == 0
    shared = [words(name, f"{name}-two", "--shard all") for name in RUNS]
    shared += [words("lora", "grown", "--shard all --resume"), words("lora", "shrunk", "--shard all --steps 1")]
    (place / "words.json").write_text(json.dumps(shared))
    together(2, _member, [str(place / "words.json")], "limner.build")
    assert main(words("lora", "shrunk", "--resume")) == 0
    return place


@pytest.mark.parametrize(
    ("one", "two"),
    [("lora-one", "lora-two"), ("full-one", "full-two"), ("lora-one", "grown"), ("lora-one", "shrunk")],
)
def test_two_that_share_the_weights_are_one(one: str, two: str, runs: Path) -> None:
    start = assemble(written_config(runs / one / "config.yaml", ()))
    require_alike(start, runs / one, runs / two)


def test_what_they_export_is_what_diffusers_loads(runs: Path) -> None:
    """The LoRA's file is one process's, in names and numbers; the network loads by its own class."""
    file = "pytorch_lora_weights.safetensors"
    mine, theirs = (load_file(runs / name / "export" / file) for name in ("lora-one", "lora-two"))
    torch.testing.assert_close(theirs, mine, rtol=1e-3, atol=1e-5)
    networks = [SD3Transformer2DModel.from_pretrained(runs / name / "export") for name in ("full-one", "full-two")]
    first, second = (dict(network.named_parameters()) for network in networks)
    torch.testing.assert_close(second, first, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"model.quantize": "nf4"}, "^shard all cuts weights in parts, and model.quantize nf4 keeps codes"),
        ({"optimizer.kind": "adamw8bit"}, "^shard all cuts the optimizer's moments in parts, which optimizer.kind"),
    ],
)
def test_what_cannot_be_cut_is_refused(keys: Mapping[str, str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        override(recipe("scenes"), {"shard": "all", **keys})
