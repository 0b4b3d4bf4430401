"""Fit the decoder of the motion base further, where one thing passes another: there it mixed their colours.

    python benchmarks/motion_decoder.py [--steps 6000] [--strict-steps 3000] [--out runs/motion-decoder]

The encoder, and so what latents mean, stays as it is, and with it what the transformer learned. Most clips show what
passes behind or before something else, which one caption in eight asks for. The last steps are by the mean of |error|^3
instead of the square: colours that mix are few and far off. Goes on where it stopped, and writes the autoencoder to
OUT/vae, at half precision; that of the bundled base was made so.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import WanPipeline
from numpy.typing import NDArray
from torch import Tensor, nn

from limner.core.team import Team
from limner.models.wan.pretraining import WanPretraining
from limner.training.fit import Fit, Log, begin
from limner.training.pretrain import Pretraining, draw, to_signed, train_decoder
from limner.worlds.motion.grammar import sample_motion
from limner.worlds.motion.render import crowd, render
from limner.worlds.motion.world import BASE

PASSES, CROWDS = 0.6, 0.2
"""Shares of the clips in which something passes behind or before another thing, and of two motions at once."""


class Passing:
    """A `training.pretrain.PairSource` for the decoder alone."""

    pretraining: ClassVar[Mapping[str, Any]] = {}

    def pair(self, rng: np.random.Generator, *noisy_shares: float) -> tuple[NDArray[np.uint8], list[str]]:
        """Return a clip, without a caption; never a held-out motion."""
        kind, motion = rng.random(), sample_motion(rng)
        while kind < PASSES and motion.category != "occlusion":
            motion = sample_motion(rng)
        if PASSES <= kind < PASSES + CROWDS:
            return crowd([motion, sample_motion(rng)], rng).frames, []
        return render(motion, rng).frames, []


def main() -> None:
    """Fit and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--strict-steps", type=int, default=3000)
    parser.add_argument("--out", type=Path, default=Path("runs/motion-decoder"))
    options = parser.parse_args()
    torch.manual_seed(0)
    fresh = WanPretraining(WanPipeline.from_pretrained(BASE))
    config = Pretraining(model="wan", seed=1, decoder_steps=options.steps, autoencoder_batch=8, compile=True)
    settings = {"decoder_steps": config.decoder_steps, "batch": config.autoencoder_batch, "lr": config.autoencoder_lr}
    settings |= {"strict_steps": options.strict_steps}
    log = begin(options.out, settings | {"passes": PASSES, "crowds": CROWDS, "seed": config.seed, "ema": config.ema})

    def named(row: Mapping[str, Any]) -> None:
        log({**row, "stage": "decoder, passing" if "squared" in row else "decoder, strict"})

    train_decoder(fresh, Passing(), config, options.out, named, Team())
    strictly(fresh, config, options.strict_steps, options.out, named)
    fresh.pipeline.vae.half().save_pretrained(options.out / "vae")


def strictly(fresh: WanPretraining, config: Pretraining, steps: int, folder: Path, log: Log) -> None:
    """Fit the decoder to the encoder's means by the cube of the error."""
    vae = fresh.pipeline.vae
    parts = nn.ModuleList([vae.post_quant_conv, vae.decoder])
    fit = Fit(parts, config.autoencoder_lr, 0.0, steps, 100, config.ema, Team())

    def measured(pixels: Tensor) -> Tensor:
        with torch.no_grad():
            latents = fresh.encoded(pixels).mean
        return (fresh.decoded(latents) - pixels).abs().pow(3).mean()

    measure = torch.compile(measured)
    for step in fit.steps(folder / "strict.pt", config.checkpoint_seconds):
        rows = range(step * config.autoencoder_batch, (step + 1) * config.autoencoder_batch)
        cube = measure(to_signed(draw(Passing(), config.seed, "strict", rows)[0]))
        fit.update(cube)
        if step % 50 == 0:
            log({"stage": "decoder", "step": step, "cubed": cube.item()} | fit.seconds())
    fit.use_average()


if __name__ == "__main__":
    main()
