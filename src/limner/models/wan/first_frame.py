"""What Wan makes of a clip's first frame, which a prompt brings along, and of its last one.

The 14B of image to video read them beside the noise: a mask of which frames are given, and the latents of a clip that
is grey but for these; those of 2.1 also read what CLIP sees in them. The 5B of 2.2 has the first frame's latent in
place of the noise there, at time 0.

Source: Wan, arXiv:2503.20314, section 5.1; diffusers' `WanImageToVideoPipeline`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import WanImageToVideoPipeline, WanPipeline
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional

from limner.core.errors import UserError
from limner.models.parts import statistics


def going_on(pipeline: WanPipeline) -> WanImageToVideoPipeline:
    """Return a pipeline of the same parts that is given a clip's first frame."""
    if not pipeline.config.expand_timesteps:
        raise UserError(
            "model: first_frame is for the 5B of Wan 2.2, and this pipeline knows no time of each token; of the others "
            "those of image to video have a folder of their own"
        )
    how = {name: pipeline.config[name] for name in ("boundary_ratio", "expand_timesteps")}
    return WanImageToVideoPipeline(**pipeline.components, **how)


def taken(pipeline: WanPipeline | WanImageToVideoPipeline, last: bool) -> tuple[str, ...]:
    """Return what each prompt brings along, by the names of the pipeline.

    The transformer of 2.1 that goes to a last frame tells two pictures apart by their place. Raises UserError for a
    `last` frame that another one is to go to, but the 14B of 2.2, which asks for none and reads one.
    """
    given, network = isinstance(pipeline, WanImageToVideoPipeline), pipeline.transformer.config
    if given and network.image_dim is not None and network.pos_embed_seq_len is not None:
        return "image", "last_image"
    if last and not (given and network.image_dim is None and not pipeline.config.expand_timesteps):
        raise UserError(
            "model: last_frame is for the 14B of image to video of Wan 2.2; of 2.1 that of first and last frame has a "
            "folder of its own, and needs no word"
        )
    return ("image", "last_image")[: given + last]


def reader(pipeline: WanPipeline | WanImageToVideoPipeline) -> WanPipeline:
    """Return a pipeline that encodes the same texts: that of images cannot do so without ftfy, that of texts can."""
    if isinstance(pipeline, WanPipeline):
        return pipeline
    return WanPipeline(pipeline.tokenizer, pipeline.text_encoder, pipeline.vae, pipeline.scheduler)


def encode(
    pipeline: WanImageToVideoPipeline, given: Sequence[Sequence[Image.Image]], frames: int, height: int, width: int
) -> dict[str, Tensor]:
    """Return {"first": [prompts + 1, channels, times, rows, columns]} of the first frames given, and last, if any.

    Also "seen", [prompts + 1, frames given, tokens, width], what CLIP sees, if it is there. The last row is of no
    prompt, and zeros. "first" has one time for the 5B.
    """
    vae = pipeline.vae
    size = {"height": height, "width": width}
    shown = [torch.cat([pipeline.video_processor.preprocess(each, **size) for each in some]) for some in given]
    clips, *last = (some[:, :, None].to(vae.device, vae.dtype) for some in shown)
    if not pipeline.config.expand_timesteps:
        clips = torch.cat([functional.pad(clips, (0, 0, 0, 0, 0, frames - 1 - len(last))), *last], dim=2)
    mean, std = statistics(vae)
    first = (torch.cat([vae.encode(clip[None]).latent_dist.mean for clip in clips]).float() - mean) / std
    if not pipeline.config.expand_timesteps:
        known = torch.zeros(len(first), pipeline.vae_scale_factor_temporal, *first.shape[2:], device=first.device)
        known[:, :, 0] = 1
        if last:
            known[:, -1, -1] = 1
        first = torch.cat([known, first], dim=1)
    found = {"first": first}
    if pipeline.transformer.config.image_dim is not None:
        device = pipeline.image_encoder.device
        found["seen"] = torch.stack([pipeline.encode_image([*each], device) for each in zip(*given, strict=True)])
    return {name: torch.cat([rows, torch.zeros_like(rows[:1])]) for name, rows in found.items()}


def joined(
    x: Float[Tensor, "batch *latent"], first: Float[Tensor, "batch ..."], beside: bool
) -> Float[Tensor, "batch ..."]:
    """Return what the transformer reads: the first frame `beside` the noise, or in its place."""
    return torch.cat([x, first.to(x)], dim=1) if beside else torch.cat([first.to(x), x[:, :, 1:]], dim=2)


def held(
    velocity: Float[Tensor, "batch *latent"],
    x: Float[Tensor, "batch *latent"],
    t: Float[Tensor, " batch"],
    first: Float[Tensor, "batch ..."],
) -> Float[Tensor, "batch *latent"]:
    """Return the velocity that leads the first frame to what is given, whatever the steps: (x - first) / t there.

    diffusers puts it there after the last step, which is where this leads. The policy has no say in it: the ratio of
    its probabilities is 1 there.
    """
    still = (x[:, :, :1] - first.to(x)) / t.view(-1, 1, 1, 1, 1)
    return torch.cat([still.to(velocity), velocity[:, :, 1:]], dim=2)
