"""What Emu3 has of its own (Wang et al., arXiv:2409.18869), as transformers' `Emu3ForConditionalGeneration` draws.

Between two rows of codes stands the token that ends a line. `generate` is told by the caller which tokens may follow;
here codes alone are drawn, and the ends of lines written between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Emu3Config, Emu3ForConditionalGeneration

from limner.core.errors import UserError
from limner.core.transfer import sent
from limner.models.dialect import Dialect, Drawing
from limner.models.emu3.settings import Emu3Settings
from limner.models.llm import byte_tokenizer, small
from limner.models.picture import sides

NEEDED = ("bos_token", "boi_token", "image_wrapper_token")
"""Special tokens around a prompt and the size of its picture."""


def require(model: Any, tokenizer: Any) -> None:
    """Raise UserError for a tokenizer without the tokens around a picture, or a vocabulary that lacks codes."""
    lacking = [name for name in NEEDED if name not in tokenizer.special_tokens_map]
    codes, named = model.config.vq_config.codebook_size, model.vocabulary_mapping
    if lacking or len(named.image_tokens) != codes or named.eol_token_id is None:
        what = f"no {lacking[0]}" if lacking else f"tokens for {len(named.image_tokens)} of {codes} codes"
        raise UserError(f"model: its tokenizer or vocabulary_map has {what}; save it as transformers converts it")


def grid(model: Any, settings: Any) -> tuple[int, int]:
    """Return rows and columns of codes. Raises UserError for a size that is no multiple of a code's."""
    side = cell(model)
    height, width = sides(settings.resolution, settings.width, (0, 0), side)
    return height // side, width // side


def cell(model: Any) -> int:
    """Return the pixels of a code's side."""
    return int(model.model.vqmodel.spatial_scale_factor)


def ask(tokenizer: Any, text: str, grid: tuple[int, int]) -> str:
    """Return the beginning, the prompt, and the size of the picture that begins."""
    begin, picture, wrapper = (tokenizer.special_tokens_map[name] for name in NEEDED)
    return f"{begin}{text}{picture}{grid[0]}*{grid[1]}{wrapper}"


def ids(mapping: Any, device: torch.device) -> Tensor:
    """Return the token of each code."""
    return sent(mapping.img2bpe_mapping_tensor, device).to(torch.int64)


def embed(model: Any, decoder: Any, codes: Tensor) -> Tensor:
    """Return the embeddings of codes as tokens of the vocabulary."""
    return decoder.get_input_embeddings()(ids(model.vocabulary_mapping, codes.device)[codes])


def head(model: Any, states: Tensor) -> Tensor:
    """Return the logits of codes, and of no other token."""
    return functional.linear(states, model.lm_head.weight[ids(model.vocabulary_mapping, states.device)])


def codes(model: Any, pixels: Tensor) -> Tensor:
    """Return the codes that vectors of pictures are nearest to."""
    sizes = torch.tensor([pixels.shape[-2:]] * len(pixels))
    return torch.stack(list(model.model.vqmodel.encode(pixels, sizes).image_tokens))


def use(model: Drawing, prompt: str, call: Mapping[str, Any]) -> list[str]:
    """Return how `generate` draws, told what may follow: codes, and the end of a line after each row."""
    (rows, columns), tokenizer = model.grid, model.tokenizer
    asked = "".join(f", {name}={value!r}" for name, value in call.items())
    lines = [f'words = tokenizer({ask(tokenizer, prompt, model.grid)!r}, return_tensors="pt")']
    if call.get("guidance_scale", 1) != 1:
        negative = ask(tokenizer, model.settings.negative_prompt, model.grid)
        lines.append(f'negative = tokenizer({negative!r}, return_tensors="pt").input_ids')
        asked += ", negative_prompt_ids=negative"
    return [
        *lines,
        "start, known = words.input_ids.shape[1], model.vocabulary_mapping",
        "",
        "def follows(batch, written):",
        f"    ends = (len(written) - start) % {columns + 1} == {columns}",
        "    return [known.eol_token_id] if ends else known.image_tokens",
        "",
        f"new = dict(min_new_tokens={rows * (columns + 1)}, max_new_tokens={rows * (columns + 1)})",
        f"written = model.generate(**words, **new, prefix_allowed_tokens_fn=follows{asked})[:, start:]",
        f"codes = known.convert_bpe2img(written.view(-1, {rows}, {columns + 1}))",
        "pixels = model.model.vqmodel.decode(codes).detach()",
    ]


def miniature() -> tuple[Any, Any]:
    """Return a tokenizer over bytes and a model with random weights: codes of 12, a code for 2 x 2 pixels."""
    named = [f"<|visual token {i:06d}|>" for i in range(12)]
    around = {"boi_token": "<picture>", "image_wrapper_token": "<size>"}
    more = ("<|extra_200|>", "<image>", *named)
    tokenizer = byte_tokenizer(more, bos_token="<bos>", pad_token="<pad>", extra_special_tokens=around)
    vocabulary = {name: tokenizer.convert_tokens_to_ids(name) for name in (*named, "<|extra_200|>", "<image>")}
    vq = {"codebook_size": 12, "embed_dim": 4, "latent_channels": 4, "base_channels": 32, "num_res_blocks": 1,
          "channel_multiplier": [1, 1], "attn_resolutions": [], "hidden_size": 32}  # fmt: skip
    sizes = small(tokenizer, 32) | {"bos_token_id": vocabulary["<image>"], "pad_token_id": tokenizer.pad_token_id}
    sizes |= {"eos_token_id": None, "attention_dropout": 0.0, "initializer_range": 0.2}
    config = Emu3Config(vq_config=vq, text_config=sizes, vocabulary_map=vocabulary)
    return tokenizer, Emu3ForConditionalGeneration(config)


EMU3 = Dialect(
    kind="emu3",
    cls=Emu3ForConditionalGeneration,
    decoder="model.text_model",
    require=require,
    grid=grid,
    ask=ask,
    embed=embed,
    head=head,
    codebook=lambda model: model.model.vqmodel.quantize.embedding.weight,
    pixels=lambda model, codes: model.model.vqmodel.decode(codes),
    codes=codes,
    cell=cell,
    use=use,
    miniature=miniature,
    tiny_settings=Emu3Settings(resolution=8, width=6, max_sequence_length=32),
    line_end=lambda model: model.vocabulary_mapping.eol_token_id,
)
