"""aMUSEd: what diffusers' own pipeline computes is what the adapter computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AmusedPipeline, UVit2DModel
from peft import PeftModel
from safetensors.torch import load_file

import limner
from limner.algorithms.flow_grpo import FlowGRPO
from limner.core.errors import UserError
from limner.core.media import Images
from limner.core.rng import Rng
from limner.core.types import Prompt
from limner.engine.lora import lora
from limner.engine.precision import Precision
from limner.models.amused.adapter import Amused
from limner.models.amused.build import tiny_pipeline
from limner.models.amused.settings import AmusedSettings
from limner.policies.masked import MASKED, MaskedSampler
from limner.registry.served import kind_of
from limner.training.config import Evaluation, Lora, Model, RunConfig

PROMPTS = [Prompt("a red star"), Prompt("star")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("amused")
    Amused.tiny(place)
    return place


def filled(model: Amused, guidance: float, tokens: torch.Tensor) -> torch.Tensor:
    """Return the guided logits of two pictures, one of each prompt."""
    policy = MaskedSampler(guidance=guidance).policy(model)
    with torch.no_grad():
        return policy.codes(tokens, model.encode(PROMPTS), torch.arange(2)).logits


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_the_pipeline_sees_the_same_logits(folder: Path, guidance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every step of a picture that the unmodified pipeline draws, which writes at as many places as the sampler."""
    assert kind_of(str(folder)) == "amused"
    model = Amused.load(folder, AmusedSettings(resolution=8, width=12, negative_prompt="red"))
    pipe = AmusedPipeline.from_pretrained(folder)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    step = pipe.scheduler.step

    def watched(model_output: torch.Tensor, timestep: int, sample: torch.Tensor, **more: Any) -> Any:
        seen.append((sample, model_output))
        return step(model_output, timestep, sample, **more)

    monkeypatch.setattr(pipe.scheduler, "step", watched)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        drawn = pipe(
            [prompt.text for prompt in PROMPTS], height=8, width=12, num_inference_steps=5, guidance_scale=guidance,
            negative_prompt=["red"] * 2, output_type="np",
        )  # fmt: skip
    mask = pipe.scheduler.config.mask_token_id
    spans = MaskedSampler(steps=5).spans(24)
    for (sample, theirs), (before, _) in zip(seen, spans, strict=True):
        tokens = sample.flatten(1).where(sample.flatten(1) != mask, MASKED)
        assert (tokens != MASKED).sum(1).tolist() == [before, before]
        torch.testing.assert_close(
            filled(model, guidance, tokens), theirs.flatten(2).transpose(1, 2), atol=1e-5, rtol=0
        )
    assert seen[0][1].std() > 1e-2 and len(drawn.images) == 2


def test_codes_become_the_pictures_of_the_pipeline_and_back(folder: Path) -> None:
    model = Amused.load(folder)
    tokens = torch.randint(12, (2, 16), generator=torch.Generator().manual_seed(0))
    vqvae = model.pipeline.vqvae
    with torch.no_grad():
        shown = vqvae.decode(tokens.view(2, 4, 4), force_not_quantize=True, shape=(2, 4, 4, 4)).sample.clip(0, 1)
    torch.testing.assert_close(model.decode(tokens).pixels, shown)
    frames = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        latents = vqvae.encode(frames).latents.permute(0, 2, 3, 1).flatten(1, 2)
    nearest = (latents[:, :, None] - vqvae.quantize.embedding.weight).square().sum(-1).argmin(-1)
    assert torch.equal(model.encode_media(Images(frames)), nearest)


def test_what_is_exported_computes_what_was_trained(folder: Path, tmp_path: Path) -> None:
    model, hidden = Amused.load(folder), torch.full((2, 16), MASKED)
    before = filled(model, 2.0, hidden)
    weights = lora(
        model.networks, rank=2, alpha=6, targets=model.lora_targets, seed=0, old=False, precision=Precision()
    )
    with torch.no_grad():
        for name, parameter in weights.parameters().items():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))) / 4)
    ours = filled(model, 2.0, hidden)
    assert (ours - before).abs().max() > 1e-2
    model.export_lora(tmp_path / "lora")
    model.export_full(tmp_path / "full")
    plain = UVit2DModel.from_pretrained(folder, subfolder="transformer")
    for theirs in (PeftModel.from_pretrained(plain, tmp_path / "lora"), UVit2DModel.from_pretrained(tmp_path / "full")):
        torch.testing.assert_close(filled(model.with_networks({"transformer": theirs}), 2.0, hidden), ours)
    for place, whole in (("lora", False), ("full", True)):
        used: dict[str, Any] = {}
        asked = {"num_inference_steps": 3, "guidance_scale": 2.0}
        exec("\n".join(model.use(repr(str(folder)), repr(str(tmp_path / place)), whole, "a star", asked)), used)
        assert np.array(used["image"]).shape == (8, 8, 3)
        network = model.with_networks({"transformer": used["network"]})
        torch.testing.assert_close(filled(network, 2.0, hidden), ours, atol=1e-5, rtol=0)


@pytest.mark.parametrize("order", ["random", "confidence"])
def test_what_was_drawn_is_scored_as_it_was(order: Any) -> None:
    model, index = Amused.tiny(), torch.tensor([0, 1, 1])
    policy, condition = MaskedSampler(order=order, steps=4, guidance=2.0).policy(model), model.encode(PROMPTS)
    with torch.no_grad():
        drawn = policy.sample(condition, index, index, torch.arange(3), rng=Rng((0,)), record=True)
    assert drawn.sample.min() >= 0 and drawn.sample.max() < 12
    path = drawn.trajectory
    assert path is not None and path.old.log_prob(path.choices).isfinite().all()


def test_a_run_trains_and_exports(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a red star\nstar\n")
    (tmp_path / "reward.py").write_text("def red(media, prompts):\n    return media.frames()[:, 0, 0].mean((1, 2))\n")
    config = RunConfig(
        name="amused",
        model=Model(path=str(folder), train=Lora(rank=2, alpha=4)),
        prompts=str(tmp_path / "prompts.txt"),
        reward=f"{tmp_path}/reward.py:red",
        algorithm=FlowGRPO(clip_low=0.2, clip_high=0.2, clip_elements=1),
        sampler=MaskedSampler(steps=4, guidance=2.0),
        evaluation=Evaluation(seeds=1),
        steps=1,
        prompts_per_step=2,
        group_size=4,
        micro_batch=8,
        out=str(tmp_path / "run"),
    )
    exported = limner.train(config, quiet=True).export()
    tensors = load_file(exported / "adapter_model.safetensors")
    assert sum(float(each.abs().sum()) for name, each in tensors.items() if "lora_B" in name) > 0
    card = (exported / "README.md").read_text()
    assert "library_name: diffusers" in card and "AmusedPipeline.from_pretrained" in card


def test_what_does_not_fit_is_said(folder: Path) -> None:
    pipeline = tiny_pipeline()
    pipeline.vqvae.register_to_config(lookup_from_codebook=False)
    with pytest.raises(UserError, match=r"vqvae has lookup_from_codebook False, .* \(it must be True\)"):
        Amused.wrap(pipeline)
    with pytest.raises(UserError, match="resolution is 7 pixels; give a multiple of 2"):
        Amused.load(folder, AmusedSettings(resolution=7))
