"""A model of one's own: a flow model in the plane, whose samples are shown as grey pictures.

    limner train scenes --model.kind examples/my_model.py:Plane --model.settings.seed 1 --model.train Full \
        --reward examples/my_reward.py:light --sampler.dynamics EulerODE --steps 10 --evaluation.ode_steps 0

The settings are what `--model.kind` names: they load the model. The model says how it predicts, on limner's time axis
(0 = data, 1 = noise), how prompts are encoded (the empty one last) and what a sample shows. Samplers, losses, LoRA,
averages and checkpoints are limner's.
"""

from dataclasses import dataclass, replace

import torch

from limner import Images
from limner.core.types import LatentSpec
from limner.diffusion.schedule import RectifiedFlow
from limner.diffusion.timesteps import linear_grid


@dataclass(frozen=True)
class Plane:
    seed: int = 0
    serves = ()

    def load(self, source, dtype, device):
        torch.manual_seed(self.seed)
        return Flow({"network": torch.nn.Sequential(torch.nn.Linear(4, 32), torch.nn.SiLU(), torch.nn.Linear(32, 2))})

    def call(self, sampler):
        return sampler


@dataclass(frozen=True, eq=False)
class Flow:
    networks: dict
    schedule, prediction = RectifiedFlow(), "velocity"
    lora_targets, pipeline_name, left_out = (), "Flow", ()

    def with_networks(self, networks):
        return replace(self, networks=networks)

    def encode(self, prompts):
        return torch.tensor([*(len(prompt.text) / 50 for prompt in prompts), 0.0])

    def latent(self):
        return LatentSpec((2,), torch.float32, torch.device("cpu"))

    def times(self, steps, grid="own"):
        return linear_grid(steps, 1.0)

    def predict(self, x, t, condition, prompt_index):
        return self.networks["network"](torch.cat([x, t[:, None], condition[prompt_index, None]], 1))

    def decode(self, sample):
        return Images(sample.sigmoid()[:, :, None, None].repeat(1, 1, 16, 8).flatten(1, 2)[:, None].repeat(1, 3, 1, 1))

    def encode_media(self, media):
        return media.frames()[:, 0, 0, [0, 16], 0].logit(1e-3)

    def export_full(self, folder):
        torch.save(self.networks["network"].state_dict(), folder / "network.pt")
