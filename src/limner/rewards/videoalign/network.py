"""VideoReward's network: transformers' Qwen2-VL with published weights, and a head on the states of three tokens."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limner.core.errors import UserError, shown
from limner.core.paths import path_of
from limner.rewards.videoalign.folder import NAME, SLOT, TOKENS, Trained, checkpoint_of, read_template, read_trained
from limner.rewards.videoalign.sight import fitted, patches, resized
from limner.rewards.videoalign.weights import WORDS, read_state
from limner.rewards.vision.weights import fill, loaded


@dataclass(frozen=True)
class Network:
    """The network, and all that it needs to be asked about a clip."""

    trained: Trained
    model: Any
    """A ModuleDict: transformers' Qwen2VLModel as `qwen`, and `head`."""
    tokenizer: Any
    template: str

    def numbers(self, frames: Float[Tensor, "frames 3 height width"], text: str, as_levels: bool) -> Float[Tensor, "3"]:
        """Return the raw VQ, MQ and TA of a clip, of which these frames are seen, for its prompt.

        They are the head's numbers of the last states, after the last norm, of the three tokens; of a head with three
        outputs each token has its own. Positions are counted along the sequence, pictures too, as in the authors' code,
        and not along time, rows and columns, as Qwen2-VL itself does.
        """
        qwen, head = (self.model[part].to(frames.device) for part in ("qwen", "head"))
        seeing = qwen.config.vision_config
        merged = seeing.spatial_merge_size
        size = fitted(frames.shape[2], frames.shape[3], seeing.patch_size * merged, self.trained.max_pixels)
        pixels, grid = patches(resized(frames, *size, as_levels), seeing.patch_size, merged)
        tokens = torch.tensor([self.tokens(text, len(pixels) // merged**2)], device=frames.device)
        states = qwen(
            input_ids=tokens,
            position_ids=torch.arange(tokens.shape[1], device=frames.device).expand(3, 1, -1),
            pixel_values_videos=pixels,
            video_grid_thw=torch.tensor([grid], device=frames.device),
            use_cache=False,
        ).last_hidden_state[0]
        asked = torch.tensor(self.tokenizer.convert_tokens_to_ids(list(TOKENS)), device=frames.device)
        found: Tensor = head(states[torch.isin(tokens[0], asked)])
        return found.diagonal() if found.shape[1] == len(TOKENS) else found[:, 0]

    def tokens(self, text: str, count: int) -> list[int]:
        """Return the sequence that asks about a clip of `count` tokens. Raises UserError for a token in the prompt."""
        for token in self.tokenizer.added_tokens_decoder.values():
            if token.content in text:
                raise UserError(f"{NAME}: prompt {shown(text)} holds {token.content}, a token of the network's own")
        content = [{"type": "video"}, {"type": "text", "text": self.template.replace(SLOT, text)}]
        turn = [{"role": "user", "content": content}]
        said: str = self.tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
        seen = self.tokenizer.convert_ids_to_tokens(self.model["qwen"].config.video_token_id)
        if said.count(seen) != 1:
            raise UserError(f"{NAME}: the chat template of its tokenizer has no place for one clip, {seen}")
        found: list[int] = self.tokenizer(said.replace(seen, seen * count)).input_ids
        return found


@functools.cache
def load(folder: str, base: str, template: str) -> Network:
    """Return the network of a published folder, its weights frozen and in float32.

    `base` is the Qwen2-VL that it was trained from; empty: what the folder says. Raises UserError for what is missing,
    or does not fit.
    """
    place = path_of(folder, NAME)
    trained, asking, newest = read_trained(place), read_template(place, template), checkpoint_of(place)
    if not (base := base or trained.base):
        raise UserError(
            f"{NAME}: give base, the folder of the Qwen2-VL that it was trained from: {folder} does not say"
        )
    config, state = loaded(NAME, "Qwen2VLConfig", base), read_state(newest, trained, base)
    words = newest / "tokenizer"
    tokenizer = loaded(NAME, "AutoTokenizer", str(words) if words.is_dir() else base)
    tokenizer.add_tokens(list(TOKENS), special_tokens=True)
    if not tokenizer.chat_template:
        raise UserError(f"{NAME}: the tokenizer in {words if words.is_dir() else base} has no chat template")
    rows = len(state[WORDS])
    if max(tokenizer.convert_tokens_to_ids(list(TOKENS))) >= rows:
        raise UserError(f"{NAME}: the weights in {newest} know {rows} tokens, not {', '.join(TOKENS)}: other weights")
    config.text_config.vocab_size = rows
    return Network(trained, _filled(config, state, newest), tokenizer, asking)


def _filled(config: Any, state: Mapping[str, Tensor], place: Path) -> Any:
    from transformers import Qwen2VLModel

    head = nn.Linear(config.text_config.hidden_size, len(state["head.weight"]), bias=False)
    return fill(NAME, nn.ModuleDict({"qwen": Qwen2VLModel(config), "head": head}), state, str(place))
