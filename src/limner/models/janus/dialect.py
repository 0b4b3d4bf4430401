"""What Janus has of its own (Chen et al., arXiv:2501.17811), as transformers' `JanusForConditionalGeneration` draws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional
from transformers import GenerationConfig, JanusConfig, JanusForConditionalGeneration, LlamaConfig

from limner.core.errors import UserError
from limner.models.dialect import Dialect, Drawing
from limner.models.honoured import require_equal
from limner.models.janus.settings import JanusSettings
from limner.models.llm import byte_tokenizer, small

PLAIN = "<|User|>: {}\n\n<|Assistant|>:"
"""How a prompt is asked where the tokenizer has no template of its own."""


def require(model: Any, tokenizer: Any) -> None:
    """Raise UserError for a model that does not say how a picture begins, or whose parts do not fit."""
    begin = model.generation_config.to_dict().get("generation_kwargs") or {}
    if "boi_token" not in tokenizer.special_tokens_map or "boi_token_id" not in begin:
        raise UserError(
            "model: the tokenizer has no boi_token, or generation_config.json no boi_token_id, with which a picture "
            "begins; save the model again as transformers converts it"
        )
    side, tokens = model.config.vq_config.num_patches, model.config.vision_config.num_image_tokens
    require_equal("vision_config has num_image_tokens", tokens, "a picture has so many codes:", side**2)


def ask(tokenizer: Any, text: str, grid: tuple[int, int]) -> str:
    """Return the prompt as a user's turn, and the token that begins a picture."""
    if tokenizer.chat_template is None:
        asked = PLAIN.format(text)
    else:
        turn = [{"role": "user", "content": [{"type": "text", "text": text}]}]
        asked = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    return f"{asked}{tokenizer.special_tokens_map['boi_token']}"


def unprompted(model: Any, ids: Tensor) -> Tensor:
    """Return padding in the place of all tokens but those that begin the text and the picture."""
    said = model.generation_config
    kept = (ids == said.bos_token_id) | (ids == said.generation_kwargs["boi_token_id"])
    return ids.where(kept, said.pad_token_id)


def codebook(model: Any) -> Tensor:
    """Return the vectors of codes, of length 1 as the decoder of pixels takes them."""
    return functional.normalize(model.model.vqmodel.quantize.embedding.weight, dim=-1)


def pixels(model: Any, codes: Tensor) -> Tensor:
    """Return what codes show."""
    return model.model.vqmodel.decode(codes.flatten(1))


def codes(model: Any, pixels: Tensor) -> Tensor:
    """Return the codes that vectors of pictures are nearest to."""
    side = model.config.vq_config.num_patches
    return model.model.vqmodel.encode(pixels).image_tokens.view(len(pixels), side, side)


def use(model: Drawing, prompt: str, call: Mapping[str, Any]) -> list[str]:
    """Return how `generate` draws; it asks for a guidance scale above 1."""
    asked = {**call, "guidance_scale": max(call.get("guidance_scale", 1), 1.000001)}
    named = "".join(f", {name}={value!r}" for name, value in asked.items())
    return [
        f'words = tokenizer({ask(model.tokenizer, prompt, model.grid)!r}, return_tensors="pt")',
        f'codes = model.generate(**words, generation_mode="image"{named})',
        "pixels = model.decode_image_tokens(codes).permute(0, 3, 1, 2).detach()",
    ]


def miniature() -> tuple[Any, Any]:
    """Return a tokenizer over bytes and a model with random weights: 16 codes of 12, pictures of 8 x 8."""
    around = {"boi_token": "<picture>"}
    tokenizer = byte_tokenizer(bos_token="<bos>", pad_token="<pad>", extra_special_tokens=around)
    tokenizer.chat_template = "{{ bos_token }}{% for m in messages %}{{ m.content[0].text }}{% endfor %}:"
    begin, pad, picture = (tokenizer.convert_tokens_to_ids(each) for each in ("<bos>", "<pad>", "<picture>"))
    wide = {"initializer_range": 0.2}  # so that what is drawn depends on what was asked
    sizes = small(tokenizer, 32) | {"bos_token_id": begin, "pad_token_id": pad} | wide
    sight = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 8, "patch_size": 2,
             "projection_dim": 32, "num_image_tokens": 16, "depth": 1, "mlp_ratio": 1.0}  # fmt: skip
    vq = {"embed_dim": 4, "num_embeddings": 12, "latent_channels": 32, "base_channels": 32, "num_res_blocks": 1,
          "channel_multiplier": [1, 1], "projection_dim": 32, "image_token_embed_dim": 32, **wide}  # fmt: skip
    config = JanusConfig(text_config=LlamaConfig(**sizes), vision_config=sight, vq_config=vq)
    model = JanusForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        bos_token_id=begin, pad_token_id=pad, generation_kwargs={"boi_token_id": picture}
    )
    return tokenizer, model


JANUS = Dialect(
    kind="janus",
    cls=JanusForConditionalGeneration,
    decoder="model.language_model",
    require=require,
    grid=lambda model, settings: (model.config.vq_config.num_patches,) * 2,
    ask=ask,
    embed=lambda model, decoder, codes: model.prepare_embeddings_for_image_generation(codes),
    head=lambda model, states: model.model.generation_head(states),
    codebook=codebook,
    pixels=pixels,
    codes=codes,
    cell=lambda model: 2 ** (len(model.config.vq_config.channel_multiplier) - 1),
    use=use,
    miniature=miniature,
    tiny_settings=JanusSettings(max_sequence_length=32),
    unprompted=unprompted,
)
"""Guidance leads away from the same text with padding in the place of its words."""
