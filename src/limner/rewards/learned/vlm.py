"""A vision-language model that learns what a picture is worth: low-rank adapters, and a head on its last token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from limner.core.errors import UserError
from limner.rewards.learned.small import in_size
from limner.rewards.vision.question import asked
from limner.rewards.vision.weights import loaded

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
"""Layers that are adapted, where they are not those that see."""
SEES = ("vision", "visual")
ASKED = "How good is this picture, and how well does it show: {}"


class Vlm(nn.Module):
    """An image-text-to-text model of transformers with its processor, asked about each picture.

        worth = head(h),   h the last token's last state, its layers being W + 2 B A, where B = 0 at first

    The model itself is no part of this module: its weights are frozen, and not kept beside the head. Source: such heads
    are VideoReward's (arXiv:2501.13918) and HPSv3's (arXiv:2508.03789); LoRA, arXiv:2106.09685. Deviation: those add
    tokens of their own to ask with. No gradient reaches the pixels: the processor works on 8 bits.
    """

    def __init__(self, network: str, edge: int, rank: int, outputs: int) -> None:
        super().__init__()
        from peft import LoraConfig, inject_adapter_in_model  # here, because peft imports transformers

        self.edge = edge
        self.processor: Any = loaded("learned", "AutoProcessor", network)
        model: Any = loaded("learned", "AutoModelForImageTextToText", network)
        chosen = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear) and _adapted(name)]
        if not chosen:
            raise UserError(
                f"reward learned: {network!r} has no layers {', '.join(ATTENTION)} that read, to be adapted"
            )
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=chosen), model)
        own = {name.replace(".", "/"): each for name, each in model.named_parameters() if each.requires_grad}
        self.adapters = nn.ParameterDict(own)
        self.held = (model,)
        self.head = nn.Linear(model.config.get_text_config().hidden_size, outputs)

    def see(self, pixels: Float[Tensor, "n 3 height width"]) -> Float[Tensor, "n 3 edge edge"]:
        """Return pictures in [0, 1] in the size that is shown."""
        return in_size(pixels, self.edge)

    def read(self, texts: Sequence[str]) -> Float[Tensor, "n letters"]:
        """Return the letters of texts as numbers, 0 behind what is shorter: a model reads them with the picture."""
        device = self.head.weight.device
        return pad_sequence([torch.tensor([*map(ord, text), 0], device=device).float() for text in texts], True)

    def judge(
        self, seen: Float[Tensor, "n 3 edge edge"], read: Float[Tensor, "n letters"], frames: int = 1
    ) -> Float[Tensor, "n outputs"]:
        """Return numbers for pictures, or for frames, each by itself, each with its text."""
        levels = (seen.detach().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        texts = ["".join(chr(int(letter)) for letter in row if letter) for row in read.tolist()]
        questions = [asked(self.processor, ASKED.replace("{}", text)) for text in texts]
        pictures = [[Image.fromarray(picture)] for picture in levels]
        inputs = self.processor(text=questions, images=pictures, padding=True, return_tensors="pt").to(seen.device)
        states = self.held[0].to(seen.device)(**inputs, output_hidden_states=True).hidden_states[-1]
        last = (inputs["attention_mask"] * torch.arange(states.shape[1], device=seen.device)).argmax(1)
        told: Tensor = self.head(states[torch.arange(len(states)), last].float())
        return told


def _adapted(name: str) -> bool:
    return name.split(".")[-1] in ATTENTION and not any(part in name for part in SEES)
