"""A whole run of a Wan miniature: what is trained, shown, sampled and exported are clips."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from diffusers import WanPipeline
from PIL import Image

import limner
from limner.algorithms.diffusion_nft import DiffusionNFT
from limner.cli import main
from limner.diffusion.dynamics import EulerODE
from limner.models.wan.adapter import Wan
from limner.models.wan.settings import WanSettings
from limner.policies.denoising import Sampler
from limner.training.config import Evaluation, Lora, Model, RunConfig

CLIPS = WanSettings(resolution=32, num_frames=5, fps=8, max_sequence_length=8)


def test_clips_all_the_way(tmp_path: Path) -> None:
    Wan.tiny(tmp_path / "base")
    (tmp_path / "prompts.txt").write_text("a red star\na blue square\n")
    run = limner.train(
        RunConfig(
            name="clips",
            model=Model("wan", str(tmp_path / "base"), CLIPS, Lora(rank=2, alpha=4)),
            prompts=str(tmp_path / "prompts.txt"),
            reward="video_flicker",
            algorithm=DiffusionNFT(num_times=1),
            sampler=Sampler(EulerODE(), steps=2),
            evaluation=Evaluation(str(tmp_path / "prompts.txt"), seeds=1),
            steps=1,
            prompts_per_step=1,
            group_size=2,
            micro_batch=4,
            device="cpu",
            out=str(tmp_path / "run"),
        ),
        quiet=True,
    )
    assert set(re.findall(r"data:image/(\w+);", (run.folder / "report.html").read_text())) == {"webp"}
    assert main(["sample", str(run.folder), "a red star", "--out", str(tmp_path / "clip.gif")]) == 0
    with Image.open(tmp_path / "clip.gif") as clip:
        assert clip.size == (32, 32) and 1 < clip.n_frames <= 5
    card = (run.folder / "export" / "README.md").read_text()
    assert "pipeline_tag: text-to-video" in card and "num_frames=5" in card and ".frames[0]" in card
    pipeline = WanPipeline.from_pretrained(tmp_path / "base")
    pipeline.load_lora_weights(run.folder / "export")
    trained, model = Wan.wrap(pipeline, CLIPS), run.assembly.policy("policy").model
    condition, x = trained.encode([]), torch.randn(1, *trained.latent().shape)
    place, t = torch.zeros(1, dtype=torch.long), torch.tensor([0.5])
    with torch.no_grad():
        expected, found = (each.predict(x, t, condition, place) for each in (model, trained))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
