"""Published checkpoints, trained as published work trained them: name prompts, and a folder if the hub is not at hand.

    limner check sd35_medium --model.path DIR --prompts FILE --reward pickscore

Numbers are those of the papers and their code; memory, speed and what is gained on a checkpoint nobody measured here.
"""

from __future__ import annotations

from limner.algorithms.ddpo import DDPO
from limner.diffusion.dynamics import DDIM
from limner.models.flux.settings import FluxSettings
from limner.models.sd.settings import SDSettings
from limner.models.sd3.settings import SD3Settings
from limner.policies.denoising import Sampler
from limner.recipes.presets import with_preset
from limner.training.config import Evaluation, Lora, Model, Optimizer, Precision, RunConfig

BFLOAT16 = Precision("bfloat16", activation_checkpointing=True)


def sd15() -> RunConfig:
    """Train Stable Diffusion 1.5 as DDPO did: DDIM(1) in 50 steps, guidance 5, 256 samples each, LoRA of rank 4.

    Source: Black et al., arXiv:2305.13301, appendix D; ddpo-pytorch's config/base.py. Groups of 8 are ours.
    """
    return RunConfig(
        name="sd15",
        model=Model("sd", "stable-diffusion-v1-5/stable-diffusion-v1-5", SDSettings(), Lora(rank=4, alpha=4)),
        reward="laion_aesthetic",
        algorithm=DDPO(),
        sampler=Sampler(DDIM(), steps=50, guidance=5.0),
        optimizer=Optimizer(lr=3e-4, weight_decay=1e-4),
        precision=BFLOAT16,
        evaluation=Evaluation(ode_steps=50),
        steps=100,
        prompts_per_step=32,
        group_size=8,
        micro_batch=8,
    )


def sd35_medium() -> RunConfig:
    """Train Stable Diffusion 3.5 medium as Flow-GRPO did for PickScore: 512 x 512, guidance 4.5, 48 groups of 24.

    Source: Liu et al., arXiv:2505.05470; config/grpo.py and train_sd3.py of its code (LoRA of rank 32, alpha 64), whose
    average of weights is left out.
    """
    model = Model("sd3", "stabilityai/stable-diffusion-3.5-medium", SD3Settings(), Lora(rank=32, alpha=64))
    base = RunConfig(
        name="sd35_medium",
        model=model,
        reward="pickscore",
        precision=BFLOAT16,
        evaluation=Evaluation(ode_steps=40, guidance=4.5),
        steps=1000,
        micro_batch=8,
    )
    return with_preset(base, "flow_grpo_sd3", {"algorithm.kl_weight": 0.01})


def flux1_dev() -> RunConfig:
    """Train FLUX.1 dev as Flow-GRPO's code does by its fast variant: three decisions of six, CPS, guidance 3.5 told.

    Source: config/grpo.py and train_flux.py of Flow-GRPO's code (window of 3 at the start, noise .8, clip 1e-5, no
    penalty, LoRA of rank 64, alpha 128); arXiv:2509.05952 for CPS and its ratio. Of the code, an average of weights (.9
    every 8 steps) and 128 tokens a prompt are left out.
    """
    base = RunConfig(
        name="flux1_dev",
        model=Model("flux", "black-forest-labs/FLUX.1-dev", FluxSettings(resolution=512), Lora(rank=64, alpha=128)),
        reward="pickscore",
        precision=BFLOAT16,
        evaluation=Evaluation(ode_steps=28),
        steps=1000,
        prompts_per_step=48,
        group_size=24,
        micro_batch=4,
    )
    fast = {"sampler.steps": 6, "sampler.window": 3, "sampler.window_range": (0, 0), "sampler.dynamics": "CPS"}
    own = {"sampler.dynamics.noise_level": 0.8, "algorithm.ratio": "distance"}
    return with_preset(base, "flow_grpo_fast", {**fast, **own})
