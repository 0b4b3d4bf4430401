"""A run from end to end in Python: what it leaves behind, and that plain diffusers gets the same result."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline, StableDiffusionPipeline
from PIL import Image
from torch import Tensor

import limner
from limner.algorithms.ddpo import DDPO
from limner.core.quiet import no_bars
from limner.diffusion.dynamics import DDIM
from limner.models.sd.adapter import SD
from limner.policies.denoising import Sampler
from limner.recipes.yaml import from_yaml
from limner.report.metrics import read
from limner.run import Run
from limner.training.config import Evaluation, Full, Lora, Model, Optimizer
from run.miniature import FLOW_GRPO, Miniature

PROMPT = "two red stars"


@dataclass(frozen=True)
class Done:
    """A finished run, and which kind it is."""

    run: Run
    lora: bool


@pytest.fixture(scope="module", params=["nft-lora-ema", "nft-full", "grpo-lora", "grpo-full-ema"])
def done(
    request: pytest.FixtureRequest, miniature: Miniature, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Done]:
    changes: Mapping[str, Any] = FLOW_GRPO if "grpo" in request.param else {}
    config = miniature.config(
        tmp_path_factory.mktemp(request.param) / "run",
        evaluation=Evaluation(str(miniature.prompts), seeds=2, every=2, part=2, ode_steps=3, guidance=2.0),
        optimizer=Optimizer(lr=1e-2, ema=0.5 if "ema" in request.param else 0.0),
        checkpoint_every=2,
        **changes,
    )
    lora = "lora" in request.param
    if not lora:
        config = replace(config, model=replace(config.model, train=Full()))
    yield Done(limner.train(config, quiet=True), lora)


def test_the_folder_holds_what_was_promised(done: Done) -> None:
    folder, config = done.run.folder, done.run.config
    text = (folder / "config.yaml").read_text()
    assert from_yaml(text) == config
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["sha256"]["config"] == hashlib.sha256(text.encode()).hexdigest()
    assert manifest["seeds"] == {"train": 0, "evaluation": [0, 1]}
    assert {"python", "torch", "diffusers"} <= manifest["versions"].keys() and manifest["hardware"]["cpu"]
    assert [path.name[:8] for path in sorted((folder / "checkpoints").iterdir())] == ["00000002", "00000003"]
    for name in ("before-sampler", "after-sampler", "before-ode", "after-ode", "before-guided"):
        pictures = sorted((folder / "samples" / name).glob("*.png"))
        assert [path.stem for path in pictures] == ["000-0", "000-1", "001-0", "001-1", "002-0", "002-1"]
        assert Image.open(pictures[0]).size == (32, 32)
    page = (folder / "report.html").read_text()
    assert "miniature, seed 0" in page and page.count("<svg") >= 3 and page.count("data:image/") >= 6
    assert not list(folder.rglob("*.part")) and not list(folder.rglob("*.tmp"))


def test_the_manifest_names_the_base_by_its_bytes(done: Done, miniature: Miniature) -> None:
    weights = json.loads((done.run.folder / "manifest.json").read_text())["sha256"]["weights"]
    name = "transformer/diffusion_pytorch_model.safetensors"
    assert weights[name] == hashlib.sha256((miniature.model / name).read_bytes()).hexdigest()
    assert len(weights) == 4


def test_metrics_have_one_line_an_iteration(done: Done) -> None:
    lines = read(done.run.folder)
    assert [line["step"] for line in lines] == [0, 1, 2]
    assert ["heldout/overall" in line for line in lines] == [False, True, False]
    for line in lines:
        assert line["reward/mean"] == pytest.approx(line["reward/redness"])
        assert line["reward/std"] > 0 and line["grad_norm"] > 0 and line["invalid"] == line["skipped"] == 0
        # Eight samples in 4 steps; then 16 decisions of three actors, or 24 of two.
        assert line["constant"] == 0 and line["network_evaluations"] == (32 + 48) * (line["step"] + 1)


def test_the_summary_holds_what_was_promised(done: Done) -> None:
    summary = json.loads((done.run.folder / "summary.json").read_text())
    assert (summary["recipe"], summary["seed"], summary["iterations"]) == ("miniature", 0, 3)
    assert summary["network_evaluations"] == 240 and summary["peak_memory_mib"] > 50 and summary["invalid"] == 0
    assert done.run.foretold is not None and summary["foretold_memory_mib"] == done.run.foretold.peak
    told = f"peak memory {summary['peak_memory_mib']:,.0f} MiB ({summary['foretold_memory_mib']:,.0f} foretold)"
    assert told in (done.run.folder / "report.html").read_text()
    spent = summary["seconds"]
    assert 0 < spent["rollout"] + spent["reward"] + spent["update"] < spent["total"]
    for moment in ("before", "after"):
        found = summary["heldout"][moment]
        assert found["low"] <= found["value"] <= found["high"] and found["n"] == 3
        assert 0 < summary["diversity"][moment] < 1
        judged = json.loads((done.run.folder / "samples" / f"{moment}-sampler" / "rewards.json").read_text())
        values = torch.tensor([row["reward"] for row in judged["rewards"]])
        assert found["value"] == pytest.approx(values.mean().item(), rel=1e-6)


def test_what_is_evaluated_is_what_is_sampled(done: Done) -> None:
    """The picture of prompt 0 at seed 1, and that training changed it; two shapes of a batch differ by rounding."""
    drawn = (done.run.sample(PROMPT, count=2).media.pixels[1] * 255).round().byte()
    after, before = (pixels(done.run.folder / "samples" / f"{when}-sampler/000-1.png") for when in ("after", "before"))
    assert (drawn.int() - after.int()).abs().max() <= 1 < (before.int() - after.int()).abs().max()


def pixels(path: Path) -> Tensor:
    image = Image.open(path).convert("RGB")
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).reshape(32, 32, 3).permute(2, 0, 1)


def test_a_run_reopened_draws_the_same(done: Done) -> None:
    again = limner.open_run(done.run.folder)
    for arguments in ({"count": 3, "seed": 5}, {"steps": 3}, {"guidance": 2.0}):
        assert torch.equal(
            done.run.sample(PROMPT, **arguments).media.pixels, again.sample(PROMPT, **arguments).media.pixels
        )
    page = (done.run.folder / "report.html").read_text()
    assert again.report().read_text() == page


def test_a_run_is_looked_at_without_the_files_of_its_user(done: Done, tmp_path: Path) -> None:
    copy = shutil.copytree(done.run.folder, tmp_path / "run")
    config = (copy / "config.yaml").read_text()
    assert "rewards.py" in config and "prompts.txt" in config
    (copy / "config.yaml").write_text(config.replace("rewards.py", "gone.py").replace("prompts.txt", "gone.txt"))
    again = limner.open_run(copy)
    assert torch.equal(again.sample(PROMPT).media.pixels, done.run.sample(PROMPT).media.pixels)
    assert again.report().stat().st_size > 10_000 and list(again.export(tmp_path / "out").glob("*.safetensors"))
    assert "prompt=''" not in (tmp_path / "out" / "README.md").read_text()  # one that was measured is the example


def prediction(transformer: torch.nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x, context, pooled = (torch.randn(shape, generator=generator) for shape in ((2, 4, 4, 4), (2, 14, 64), (2, 64)))
    with torch.no_grad():
        return transformer(x, context, pooled, torch.tensor([300.0, 800.0]), return_dict=False)[0]


def test_plain_diffusers_loads_the_export(done: Done, miniature: Miniature, tmp_path: Path) -> None:
    """To its own call, with alpha other than rank: the prediction is that of the run, averaged if it averages."""
    parts = done.run.assembly.parts
    with parts.ema.swapped() if parts.ema is not None else nullcontext():
        expected = prediction(done.run.assembly.model.networks["transformer"])
    trained = prediction(done.run.assembly.model.networks["transformer"])
    assert torch.equal(trained, expected) == (parts.ema is None)
    with no_bars():
        pipe = StableDiffusion3Pipeline.from_pretrained(miniature.model, text_encoder_3=None, tokenizer_3=None)
    base = prediction(pipe.transformer)
    for folder in (done.run.folder / "export", done.run.export(tmp_path / "again")):
        if done.lora:
            pipe.load_lora_weights(folder)
            loaded = prediction(pipe.transformer)
            pipe.unload_lora_weights()
        else:
            loaded = prediction(SD3Transformer2DModel.from_pretrained(folder))
            text = (folder / "README.md").read_text().replace("PATH/TO/THIS/FOLDER", str(folder))
            said = text.partition("```python\n")[2].partition("```")[0].splitlines()
            found: dict[str, Any] = {}
            exec("\n".join(said[:-1]), found)  # all but the call
            assert torch.equal(prediction(found["pipe"].transformer), loaded)
        assert (loaded - expected).abs().max() < 1e-5 < 0.1 * (base - expected).abs().max()
        card = (folder / "README.md").read_text()
        assert str(miniature.model) in card and ("load_lora_weights" in card) == done.lora
        assert (
            "text_encoder_3=None, tokenizer_3=None" in card and f"pipe(prompt={parts.studio.prompts[0].text!r}" in card
        )


def test_a_unet_is_trained_and_its_export_is_for_its_own_pipeline(miniature: Miniature, tmp_path: Path) -> None:
    with no_bars():
        SD.tiny("sd15", tmp_path / "base")
    model = Model("sd", str(tmp_path / "base"), None, Lora(rank=2, alpha=4))
    run = limner.train(
        miniature.config(tmp_path / "run", model=model, algorithm=DDPO(), sampler=Sampler(DDIM(1.0), steps=4)),
        quiet=True,
    )
    card = (run.folder / "export" / "README.md").read_text()
    assert "StableDiffusionPipeline.from_pretrained" in card and "StableDiffusion3" not in card
    with no_bars():
        pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "base", safety_checker=None)
        pipeline.load_lora_weights(run.folder / "export")
    trained = dict(run.assembly.parts.weights.parameters())
    loaded = {name: p for name, p in pipeline.unet.named_parameters() if "lora" in name}
    assert (
        len(loaded) == len(trained)
        and max(float(p.detach().abs().max()) for n, p in loaded.items() if "lora_B" in n) > 0
    )
