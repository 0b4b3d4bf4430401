"""What families that edit share: the latents of the pictures that prompts bring along."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from limner.models.piped import Piped


def latents(model: Piped, given: list[Image.Image]) -> Tensor:
    """Return the latents of given pictures, scaled to what is drawn; none of none."""
    height, width = (side * model.cell for side in model.latent_size)
    levels = [model.pipeline.image_processor.preprocess(each, height, width)[None] for each in given]
    none = torch.zeros(0, *model.latent().shape, device=model.pipeline.vae.device)
    return torch.cat([none, *(model.family.encode(model, each / 2 + 0.5) for each in levels)])
