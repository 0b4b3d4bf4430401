"""A run that is given Python objects: the same as one that is given files, and nothing of the caller's is changed."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusion3Pipeline
from torch import Tensor, nn

import limner
from limner.core.errors import UserError
from limner.core.media import Media
from limner.core.quiet import no_bars
from limner.core.types import Prompt
from limner.models.sd.adapter import SD
from limner.models.sd.build import tiny_pipeline
from limner.models.sd3.adapter import SD3
from limner.objects import Objects, seeds_of
from limner.recipes.yaml import from_yaml, to_yaml
from limner.report.metrics import read
from limner.training.config import Evaluation
from run.miniature import Miniature, differences, last_checkpoint

TEXTS = ["two red stars", "a blue circle", "one green star"]


def redness(media: Media, prompts: Sequence[Prompt]) -> Tensor:
    red = media.frames()[:, 0, 0]
    left, right = red.chunk(2, dim=2)
    return (1000 * (left.mean((1, 2)) - right.mean((1, 2)))).round()


def loaded(miniature: Miniature) -> StableDiffusion3Pipeline:
    with no_bars():
        return StableDiffusion3Pipeline.from_pretrained(
            miniature.model, dtype=torch.float32, text_encoder_3=None, tokenizer_3=None
        )


def told(folder: Path) -> list[dict[str, Any]]:
    """Return the log without seconds, and without the folder of a reward's file."""
    kept = [{name: value for name, value in line.items() if "seconds" not in name} for line in read(folder)]
    return [{name.rpartition(":")[2].rpartition("/")[2]: value for name, value in line.items()} for line in kept]


def state(pipeline: DiffusionPipeline) -> dict[str, Any]:
    """Return all of a pipeline that could be changed."""
    parts = {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
    return {
        name: (
            {key: (value.clone(), value.dtype, value.stride()) for key, value in part.state_dict().items()},
            [(key, p.requires_grad) for key, p in part.named_parameters()],
            [(key, module.training) for key, module in part.named_modules()],
        )
        for name, part in parts.items()
    } | {"tokenizer": dict(pipeline.tokenizer.deprecation_warnings), "config": dict(pipeline.config)}


def test_objects_are_as_good_as_files(miniature: Miniature, tmp_path: Path) -> None:
    """The same weights bit for bit, log and pictures; and the caller's pipeline is what it was."""
    measured = Evaluation(str(miniature.prompts), seeds=2)
    named = limner.train(miniature.config(tmp_path / "files", evaluation=measured), quiet=True)
    pipeline = loaded(miniature)
    before = state(pipeline)
    config = miniature.config(tmp_path / "objects", evaluation=Evaluation(reward="jpeg_size", seeds=2))
    given = {"reward": redness, "prompts": TEXTS, "heldout": [Prompt(text) for text in TEXTS], "model": pipeline}
    run = limner.train(config, **given, quiet=True)
    assert differences(last_checkpoint(named.folder), last_checkpoint(run.folder)) == []
    assert told(run.folder) == told(named.folder)
    assert torch.equal(run.sample("a red star").stills(), named.sample("a red star").stills())
    summaries = [(each.folder / "samples" / "after-sampler" / "rewards.json").read_text() for each in (run, named)]
    assert summaries[0] == summaries[1]
    assert differences(before, state(pipeline)) == [] and state(pipeline)["tokenizer"] == before["tokenizer"]
    kept = from_yaml((run.folder / "config.yaml").read_text())
    assert kept == run.config and kept.evaluation.reward == "" and kept.model.kind == "sd3"
    named_as = [kept.reward, kept.prompts, kept.evaluation.prompts, kept.model.path]
    objects = ["object:redness", "object:prompts", "object:heldout", "object:StableDiffusion3Pipeline"]
    assert [text.partition(" (")[0] for text in named_as] == objects


def test_a_run_of_objects_goes_on_with_the_same_ones(miniature: Miniature, tmp_path: Path) -> None:
    whole = limner.train(miniature.config(tmp_path / "whole"), reward=redness, prompts=TEXTS, quiet=True)
    config, given = miniature.config(tmp_path / "run"), {"reward": redness, "prompts": TEXTS}
    run = limner.train(config, **given, quiet=True)
    last = sorted((run.folder / "checkpoints").iterdir())[-1]
    last.unlink() if last.is_file() else shutil.rmtree(last)
    for other in ({"prompts": TEXTS[:2]}, {"reward": seldom}):
        with pytest.raises(UserError, match="another configuration"):
            limner.train(config, **{**given, **other}, resume=True, quiet=True)
    with pytest.raises(
        UserError, match=r"its reward \(object:redness \(\w{8}\)\) and prompts \(object:prompts.* given"
    ):
        limner.train(str(run.folder / "config.yaml"), resume=True, quiet=True)
    again = limner.train(str(run.folder / "config.yaml"), **given, resume=True, quiet=True)
    assert differences(last_checkpoint(whole.folder), last_checkpoint(again.folder)) == []


def seldom(media: Media, prompts: Sequence[Prompt]) -> list[float]:
    return [float("red" in prompt.text) for prompt in prompts]


def test_a_run_of_a_pipeline_is_looked_at_with_it(miniature: Miniature, tmp_path: Path) -> None:
    pipeline = loaded(miniature)
    run = limner.train(miniature.config(tmp_path / "run"), model=pipeline, quiet=True)
    again = limner.open_run(run.folder, model=pipeline)
    assert torch.equal(again.sample("a star").stills(), run.sample("a star").stills())
    with pytest.raises(UserError, match=r"limner.open_run\(folder, model=...\)"):
        limner.open_run(run.folder)
    with torch.no_grad():
        next(pipeline.transformer.parameters()).add_(1)
    with pytest.raises(UserError, match="is a run of model object:StableDiffusion3Pipeline .*: give that one"):
        limner.open_run(run.folder, model=pipeline)


@pytest.mark.parametrize("kind", ["sd15", "sdxl", "sd3"])
def test_a_pipeline_is_the_folder_it_would_be_saved_as(kind: Any, tmp_path: Path) -> None:
    """In half precision, as it may be held: the adapter computes what it does from the folder."""
    made = SD3.tiny().pipeline if kind == "sd3" else tiny_pipeline(kind)
    pipeline = made.to(torch.float16)
    with no_bars():
        pipeline.save_pretrained(tmp_path)
    before = copy.deepcopy(state(pipeline))
    adapter = SD3 if kind == "sd3" else SD
    held, stored = adapter.load(pipeline), adapter.load(tmp_path)
    condition, expected = held.encode([Prompt("a star")]), stored.encode([Prompt("a star")])
    assert differences(condition, expected) == []
    x, t = torch.randn(2, *held.latent().shape, generator=torch.Generator().manual_seed(0)), torch.tensor([0.2, 0.9])
    rows = torch.tensor([0, 1])
    with torch.no_grad():
        assert torch.equal(held.predict(x, t, condition, rows), stored.predict(x, t, expected, rows))
        assert torch.equal(held.decode(x).pixels, stored.decode(x).pixels)
    assert differences(before, state(pipeline)) == []


def test_the_frozen_parts_cost_no_memory_and_the_trained_one_is_a_copy() -> None:
    pipeline = tiny_pipeline("sd15")
    made = SD.load(pipeline).pipeline
    for name, part in pipeline.components.items():
        if isinstance(part, nn.Module):
            pairs = zip(part.parameters(), made.components[name].parameters(), strict=True)
            shared = {
                a.data_ptr() == b.data_ptr() for a, b in pairs if a.dim() < 4
            }  # others of the decoder are laid anew
            assert shared == {name != "unet"}


def test_settings_that_do_not_fit_the_pipeline_are_left(miniature: Miniature) -> None:
    config = miniature.config(Path("x"))
    assert config.model.settings is not None
    chosen = limner.objects.Objects(model=tiny_pipeline("sd15")).within(config).model
    assert (chosen.kind, chosen.settings, chosen.train) == ("sd", None, config.model.train)
    chosen = limner.objects.Objects(model=loaded(miniature)).within(config).model
    assert (chosen.kind, chosen.settings) == ("sd3", config.model.settings)


def offloaded() -> Any:
    from accelerate.hooks import ModelHook, add_hook_to_module

    pipeline = tiny_pipeline("sd15")
    add_hook_to_module(pipeline.unet, ModelHook())
    return pipeline


def with_a_lora() -> Any:
    from peft import LoraConfig

    pipeline = tiny_pipeline("sd15")
    pipeline.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q"]))
    return pipeline


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"reward": 3}, "reward is a int; give a function of (media, prompts), or text"),
        ({"reward": lambda media: 0}, "does not accept (media, prompts)"),
        ({"prompts": []}, "prompts is an empty list; give at least one prompt"),
        ({"prompts": ["a", 3]}, "prompts holds a int; give texts, or limner.Prompt(text, meta)"),
        ({"heldout": [None]}, "heldout holds a NoneType; give texts"),
        ({"prompts": 3}, "prompts is a int; give a list of texts, or the name of a file"),
        ({"prompts": {"a star", "b"}}, "prompts is a set; give a list of texts"),
        ({"prompts": b"a star"}, "prompts is a bytes; give a list of texts"),
        ({"prompts": ["  "]}, "prompts: a text in UTF-8 that is not empty is needed, got '  '"),
        ({"prompts": ["\ud800"]}, "prompts: a text in UTF-8 that is not empty is needed"),
        ({"prompts": [Prompt(3)]}, "prompts: a text in UTF-8 that is not empty is needed, got 3"),  # type: ignore[arg-type]
        ({"heldout": [Prompt("a", None)]}, "heldout 'a': meta and inputs are dicts"),  # type: ignore[arg-type]
        ({"model": 3}, "model is a int; give a pipeline of diffusers, a folder, or a base's name"),
        ({"model": "nowhere"}, "model: nowhere is not a folder"),
    ],
)
def test_what_cannot_be_given_is_one_line(
    given: dict[str, Any], message: str, miniature: Miniature, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        limner.train(miniature.config(tmp_path / "run"), **given)
    assert message in str(caught.value) and "\n" not in str(caught.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize(("make", "message"), [(offloaded, "offload, device_map"), (with_a_lora, "unet has a LoRA")])
def test_pipelines_that_cannot_be_copied(make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        SD.load(make())


def test_prompts_may_come_from_a_generator_and_names_be_paths(miniature: Miniature, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(to_yaml(miniature.config(tmp_path / "run")))
    given = Objects(prompts=(text for text in TEXTS), heldout=miniature.prompts)
    assert given.prompts == [Prompt(text) for text in TEXTS] and given.heldout == str(miniature.prompts)
    assert given.within(file) == Objects(prompts=TEXTS, heldout=str(miniature.prompts)).within(str(file))
    with pytest.raises(UserError, match="config is a int; give a limner.RunConfig, or a recipe's name or file"):
        limner.train(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(("count", "seed"), [(0, 0), (-1, 0), (1.5, 0), ("2", 0), (10**9, 0), (1, "x"), (1, None)])
def test_samples_are_a_number_that_can_be_meant(count: Any, seed: Any) -> None:
    with pytest.raises(UserError, match="count and seed are whole numbers, and count from 1 to 10000, got"):
        seeds_of(count, seed)
    assert seeds_of(2, -1) == range(-1, 1)


def test_a_dry_run_of_objects(miniature: Miniature, tmp_path: Path) -> None:
    found = limner.check(miniature.config(tmp_path / "run"), reward=redness, prompts=TEXTS, model=loaded(miniature))
    assert found.prompts.total == 3 and list(found.rewards) == ["redness"] and not (tmp_path / "run").exists()
