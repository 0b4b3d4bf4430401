"""The parts of a GAN: made for a pipeline, written as a folder, and read from one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import StableDiffusion3Pipeline

from limner.core.errors import UserError
from limner.core.quiet import no_bars
from limner.core.types import Vocabulary
from limner.models.folder import INDEX
from limner.models.gan.networks import Discriminator, Start
from limner.models.intact import require_intact
from limner.models.sd3.build import SD3Size, build

PIPELINE = "ConditionalGAN"
"""What the index calls it, by which it is told from the pipeline that it is; the index is that one's else."""
KINDS: Mapping[str, Any] = {"discriminator": Discriminator, "start": Start}
"""What lies beside the pipeline's folders, and the class that loads each by its `from_pretrained`."""


class Beside(NamedTuple):
    """What stands beside the generator."""

    discriminator: Discriminator
    start: Start


def beside(pipeline: StableDiffusion3Pipeline, length: int, width: int, seed: int) -> Beside:
    """Return a discriminator `width` wide with random weights, for texts of `length` tokens, and a start at N(0, I)."""
    network = pipeline.transformer.config
    latent = {"latent_channels": network.in_channels, "latent_size": network.sample_size}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        judge = Discriminator(network.joint_attention_dim, length, width=width, **latent)
        return Beside(judge, Start(network.pooled_projection_dim, **latent))


def tiny_pipeline(seed: int = 0) -> StableDiffusion3Pipeline:
    """Return a miniature with random weights and without T5: pictures of 32 x 32."""
    words = Vocabulary(("red", "star"), max_length=10)
    return build(SD3Size(words, 4, 4, layers=2, heads=2, head_width=16, text_width=32, text_layers=1), seed)


def write(folder: Path, pipeline: Any, parts: Beside) -> None:
    """Write the pipeline as diffusers does, and the parts beside it; the index has the name of a GAN."""
    with no_bars():
        pipeline.save_pretrained(folder)
        for name, part in parts._asdict().items():
            part.save_pretrained(folder / name)
    index = json.loads((folder / INDEX).read_text(encoding="utf-8")) | {"_class_name": PIPELINE}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def read_beside(folder: Path, dtype: torch.dtype) -> Beside:
    """Return what lies beside the pipeline of a folder, in `dtype`, whatever it is stored in; nothing is unpickled.

    Raises UserError if it is not there, or is damaged.
    """
    require_intact(folder, {name: [kind.__module__, kind.__name__] for name, kind in KINDS.items()}, [*KINDS])
    stored = {"local_files_only": True, "torch_dtype": dtype, "use_safetensors": True}
    try:
        with no_bars():
            return Beside(**{name: kind.from_pretrained(folder / name, **stored) for name, kind in KINDS.items()})
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"model: {folder} cannot be loaded ({reason}); save or download it again") from error
