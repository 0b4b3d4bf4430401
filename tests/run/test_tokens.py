"""A folder of tokens trains, samples, resumes and exports as any other model does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

import limner
from limner.algorithms.flow_grpo import FlowGRPO
from limner.models.tokens.adapter import Tokens
from limner.policies.tokens import TokenSampler
from limner.training.config import Evaluation, Lora, Model, Optimizer, RunConfig


def test_a_run_of_tokens_resumes_bit_by_bit_and_exports_what_peft_loads(tmp_path: Path) -> None:
    Tokens.tiny(tmp_path / "model")
    (tmp_path / "prompts.txt").write_text("a red star\nred red star\nstar\n")
    (tmp_path / "heldout.txt").write_text("a star\nred\n")
    (tmp_path / "reward.py").write_text("def red(media, prompts):\n    return media.frames()[:, 0, 0].mean((1, 2))\n")
    config = RunConfig(
        name="tokens",
        model=Model(path=str(tmp_path / "model"), train=Lora(rank=2, alpha=4)),
        prompts=str(tmp_path / "prompts.txt"),
        reward=f"{tmp_path}/reward.py:red",
        algorithm=FlowGRPO(clip_low=0.2, clip_high=0.2, clip_elements=1, kl_weight=0.01),
        sampler=TokenSampler(),
        optimizer=Optimizer(lr=1e-2),
        evaluation=Evaluation(prompts=str(tmp_path / "heldout.txt"), seeds=1),
        steps=2,
        prompts_per_step=2,
        group_size=4,
        micro_batch=8,
        checkpoint_every=1,
        out=str(tmp_path / "whole"),
    )
    whole = limner.train(config, quiet=True).export()
    limner.train(replace(config, steps=1, out=str(tmp_path / "parts")), quiet=True)
    parts = limner.train(replace(config, out=str(tmp_path / "parts")), resume=True, quiet=True).export()
    one, two = (load_file(folder / "adapter_model.safetensors") for folder in (whole, parts))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    assert "load_adapter" in (whole / "README.md").read_text()
    decoder = LlamaForCausalLM.from_pretrained(tmp_path / "model" / "decoder", dtype=torch.float32)
    tuned = PeftModel.from_pretrained(decoder, whole)
    assert sum(float(p.abs().sum()) for name, p in tuned.named_parameters() if "lora_B" in name) > 0
