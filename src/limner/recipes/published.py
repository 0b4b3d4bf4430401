"""Published checkpoints, trained as published work trained them: name a folder if the hub is not at hand.

    limner check sd35_medium --model.path DIR --reward pickscore

Prompts are ours (`worlds/everyday/`), not those of published work; `--prompts FILE` and `--evaluation.prompts FILE` are
anyone's own.

Numbers are those of the papers and their code; memory, speed and what is gained on a checkpoint nobody measured here.
"""

from __future__ import annotations

from limner.algorithms.d3po import D3PO
from limner.algorithms.ddpo import DDPO
from limner.algorithms.flow_grpo import FlowGRPO
from limner.diffusion.dynamics import DDIM, DanceSDE, FlowSDE
from limner.models.flux.settings import FluxSettings
from limner.models.qwen_image.settings import QwenImageSettings
from limner.models.sd.settings import SDSettings
from limner.models.sd3.settings import SD3Settings
from limner.models.wan.settings import WanSettings
from limner.models.z_image.settings import ZImageSettings
from limner.policies.denoising import Sampler
from limner.recipes.presets import with_preset
from limner.training.config import Evaluation, Lora, Model, Optimizer, Precision, RunConfig
from limner.training.snapshots import Snapshots

HELDOUT = "objects:heldout"
SNAPSHOTS = Snapshots(every=20)
"""A run of days shows what becomes of four prompts, for next to nothing beside what it draws to learn from."""
AVERAGE = 0.987
"""Of Flow-GRPO's code, and others, whose average of weights is by .9 every 8 optimizer steps: .9^(1 / 8) at each."""
BFLOAT16 = Precision("bfloat16", activation_checkpointing=True)
WAN_33 = 16 * 9 * 30 * 52
"""Elements of Wan's latent of 33 frames of 240 x 416 pixels."""


def sd15() -> RunConfig:
    """Train Stable Diffusion 1.5 as DDPO did: DDIM(1) in 50 steps, guidance 5, 256 samples each, LoRA of rank 4.

    Source: Black et al., arXiv:2305.13301, appendix D; ddpo-pytorch's config/base.py. Groups of 8 are ours.
    """
    return RunConfig(
        name="sd15",
        prompts="objects:train",
        model=Model("sd", "stable-diffusion-v1-5/stable-diffusion-v1-5", SDSettings(), Lora(rank=4, alpha=4)),
        reward="laion_aesthetic",
        algorithm=DDPO(),
        sampler=Sampler(DDIM(), steps=50, guidance=5.0),
        optimizer=Optimizer(lr=3e-4, weight_decay=1e-4),
        precision=BFLOAT16,
        evaluation=Evaluation(HELDOUT, ode_steps=50),
        snapshots=SNAPSHOTS,
        steps=100,
        prompts_per_step=32,
        group_size=8,
        micro_batch=8,
    )


def sdxl() -> RunConfig:
    """Train Stable Diffusion XL as SPO did: pairs of steps from one state, DDIM(1) in 20 steps, guidance 5, beta 10.

    Source: Liang et al., arXiv:2406.04314, and its code (LoRA of rank 64, clip .1). Here the finished sample is judged,
    and no model of steps; the sizes of an iteration, and where the step is, are ours.
    """
    return RunConfig(
        name="sdxl",
        prompts="objects:train",
        model=Model("sd", "stabilityai/stable-diffusion-xl-base-1.0", SDSettings(), Lora(rank=64, alpha=64)),
        reward="pickscore",
        algorithm=D3PO(beta=10.0, clip=0.1),
        sampler=Sampler(DDIM(), steps=20, guidance=5.0, window=1, window_range=(4, 18), shared_start=True),
        optimizer=Optimizer(lr=1e-5, weight_decay=1e-4),
        precision=BFLOAT16,
        evaluation=Evaluation(HELDOUT, ode_steps=50, guidance=5.0),
        snapshots=SNAPSHOTS,
        steps=1000,
        prompts_per_step=32,
        group_size=4,
        micro_batch=4,
    )


def sd35_medium() -> RunConfig:
    """Train Stable Diffusion 3.5 medium as Flow-GRPO did for PickScore: 512 x 512, guidance 4.5, 48 groups of 24.

    Source: Liu et al., arXiv:2505.05470; config/grpo.py and train_sd3.py of its code (LoRA of rank 32, alpha 64, and an
    average of weights).
    """
    model = Model("sd3", "stabilityai/stable-diffusion-3.5-medium", SD3Settings(), Lora(rank=32, alpha=64))
    base = RunConfig(
        name="sd35_medium",
        prompts="objects:train",
        model=model,
        reward="pickscore",
        optimizer=Optimizer(ema=AVERAGE),
        precision=BFLOAT16,
        evaluation=Evaluation(HELDOUT, ode_steps=40, guidance=4.5),
        snapshots=SNAPSHOTS,
        steps=1000,
        micro_batch=8,
    )
    return with_preset(base, "flow_grpo_sd3", {"algorithm.kl_weight": 0.01})


def flux1_dev() -> RunConfig:
    """Train FLUX.1 dev as Flow-GRPO's code does by its fast variant: three decisions of six, CPS, guidance 3.5 told.

    Source: config/grpo.py and train_flux.py of Flow-GRPO's code (window of 3 at the start, noise .8, clip 1e-5, no
    penalty, LoRA of rank 64, alpha 128, an average of weights); arXiv:2509.05952 for CPS and its ratio. Of the code,
    128 tokens a prompt are left out.
    """
    base = RunConfig(
        name="flux1_dev",
        prompts="objects:train",
        model=Model("flux", "black-forest-labs/FLUX.1-dev", FluxSettings(resolution=512), Lora(rank=64, alpha=128)),
        reward="pickscore",
        optimizer=Optimizer(ema=AVERAGE),
        precision=BFLOAT16,
        evaluation=Evaluation(HELDOUT, ode_steps=28),
        snapshots=SNAPSHOTS,
        steps=1000,
        prompts_per_step=48,
        group_size=24,
        micro_batch=4,
    )
    fast = {"sampler.steps": 6, "sampler.window": 3, "sampler.window_range": (0, 0), "sampler.dynamics": "CPS"}
    own = {"sampler.dynamics.noise_level": 0.8, "algorithm.ratio": "distance"}
    return with_preset(base, "flow_grpo_fast", {**fast, **own})


def qwen_image() -> RunConfig:
    """Train Qwen-Image as Flow-GRPO's code does for PickScore: two decisions of ten, guidance 4, 32 groups of 16.

    Source: pickscore_qwenimage in config/grpo.py of Flow-GRPO's code: 512 x 512, a window that begins in the first
    half, noise 1.2, no average of weights; LoRA of rank 64, alpha 128 as in its train_qwenimage_edit_plus.py. Texts are
    cut at 128 tokens.
    """
    settings = QwenImageSettings(resolution=512, max_sequence_length=128)
    base = RunConfig(
        name="qwen_image",
        prompts="objects:train",
        model=Model("qwen_image", "Qwen/Qwen-Image", settings, Lora(rank=64, alpha=128)),
        reward="pickscore",
        precision=BFLOAT16,
        evaluation=Evaluation(HELDOUT, ode_steps=50, guidance=4.0),
        snapshots=SNAPSHOTS,
        steps=1000,
        prompts_per_step=32,
        group_size=16,
        micro_batch=2,
    )
    return with_preset(base, "flow_grpo_fast", {"sampler.dynamics.noise_level": 1.2, "sampler.guidance": 4.0})


def z_image_turbo() -> RunConfig:
    """Train Z-Image-Turbo as Flow-Factory's example does: one decision of six, noise .7, no guidance, groups of 16.

    Source: examples/grpo/lora/z_image_turbo/default.yaml of its code (arXiv:2602.12529): 512 x 512, the decision one of
    the steps 1 to 3, clip 1e-4, no penalty, two optimizer steps for 48 groups, learning rate 3e-4, LoRA of rank 64,
    alpha 128, an average of weights by .9 every 8 optimizer steps; evaluated in 10 steps. Here each group has a step of
    its own, the frozen base is in bfloat16, where that keeps float32, and what LoRA adapts is the model's own default.
    """
    settings = ZImageSettings(resolution=512)
    return RunConfig(
        name="z_image_turbo",
        prompts="objects:train",
        model=Model("z_image", "Tongyi-MAI/Z-Image-Turbo", settings, Lora(rank=64, alpha=128)),
        reward="pickscore",
        algorithm=FlowGRPO(),
        sampler=Sampler(FlowSDE(noise_level=0.7), steps=6, window=1, window_range=(1, 3)),
        optimizer=Optimizer(lr=3e-4, weight_decay=1e-4, ema=AVERAGE),
        precision=BFLOAT16,
        evaluation=Evaluation(HELDOUT, ode_steps=10),
        snapshots=SNAPSHOTS,
        steps=1000,
        prompts_per_step=48,
        group_size=16,
        micro_batch=4,
    )


def wan_1_3b() -> RunConfig:
    """Train Wan 2.1 1.3B as Flow-GRPO's code does for written words: 33 frames of 240 x 416, 20 steps, groups of 4.

    Source: general_ocr_wan2_1 in config/grpo.py and train_wan2_1.py of Flow-GRPO's code: guidance 4.5, learning rate
    1e-4, clip 1e-3, penalty .004, LoRA of rank 32, alpha 64, an average of weights, and noise that grows with t to .99.
    How many groups an iteration has is ours. Where another judge watches what moves, take `actions:train` for
    `signs:train`.
    """
    settings = WanSettings(resolution=240, width=416, num_frames=33)
    return RunConfig(
        name="wan_1_3b",
        prompts="signs:train",
        model=Model("wan", "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", settings, Lora(rank=32, alpha=64)),
        reward="frames_mean(ocr)",
        algorithm=FlowGRPO(clip_low=1e-3, clip_high=1e-3, clip_elements=WAN_33, kl_weight=0.004),
        sampler=Sampler(DanceSDE(0.0, slope=0.99), steps=20, guidance=4.5),
        optimizer=Optimizer(lr=1e-4, ema=AVERAGE),
        precision=BFLOAT16,
        evaluation=Evaluation("signs:heldout", ode_steps=50, guidance=4.5),
        snapshots=SNAPSHOTS,
        steps=1000,
        prompts_per_step=16,
        group_size=4,
        micro_batch=2,
    )
