"""Teach the motion base what its prompts say: `limner pretrain motion`, `limner train examples/my_motion.py`."""

from limner import DiffusionNFT, DPMSolver, Evaluation, Lora, Model, Optimizer, RunConfig, Sampler, WanSettings


def recipe() -> RunConfig:
    """Return the settings of the scenes demo, for clips of 13 frames of 32 x 32."""
    settings = WanSettings(resolution=32, num_frames=13, fps=8, max_sequence_length=12)
    return RunConfig(
        name="motion",
        model=Model(path="runs/pretrain-motion-wan/pipeline", settings=settings, train=Lora(rank=32, alpha=64)),
        prompts="motion:train",
        reward="0.5 * motion + 0.5 * motion.fraction",
        algorithm=DiffusionNFT(kl_weight=0.0, num_times=3, min_time=0.5, decay="linear", decay_rate=0.02),
        sampler=Sampler(dynamics=DPMSolver(), steps=10, grid="linear"),
        optimizer=Optimizer(lr=3e-3, warmup=2, schedule="cosine", ema=0.8),
        evaluation=Evaluation(prompts="motion:heldout", reward="motion", seeds=4, every=12, ode_steps=20, guidance=4.0),
        steps=48,
        prompts_per_step=12,
        group_size=12,
        micro_batch=144,
    )
