"""Language models that encode prompts, in miniature and from nothing: a tokenizer over bytes, and random weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from transformers import (
    AddedToken,
    Gemma2Config,
    Gemma2Model,
    GlmConfig,
    GlmModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

END = "<|endoftext|>"
CHAT = ("<|im_start|>", "<|im_end|>")
"""What begins and ends a turn of Qwen's chats."""
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""A chat of Qwen's."""
SPOKEN = TEMPLATE.replace("message.content", "message.content[0].text")
"""The same of turns that may hold pictures too."""
DESCRIBE = (
    *"system,\n,Describe, the, image, by, detailing, color, shape, size, texture, quantity, text, spatial".split(","),
    *" relationships, of, objects, and, background,:,user,assistant".split(","),
    ",",
)
"""Words of what Qwen2.5-VL is told before a picture's prompt, each one token: 34 stand there, and are dropped."""
EDIT = (
    *"system,Describe, the, key, features, of, input, image, (color, shape, size, texture, objects".split(","),
    *" background,), then, explain, how, user,'s, text, instruction, should, alter, or, modify, Generate".split(","),
    *" a, new, that, meets, requirements, while, maintaining, consistency, with, original, where".split(","),
    *" appropriate,user,assistant".split(","),
)
"""Words of what it is told before a picture that is edited, each one token: 64 stand there, and are dropped."""
SIGHT = {"vision_start": "<|vision_start|>", "vision_end": "<|vision_end|>", "image": "<|image_pad|>",
         "video": "<|video_pad|>"}  # fmt: skip
"""What stands around a picture, and in its place, by what Qwen2.5-VL's configuration calls them."""
DECODER_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""All linear layers of a block (QLoRA, arXiv:2305.14314, section 4): what LoRA adapts of a decoder that writes."""
NO_TOKENS: dict[str, Any] = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
"""They are for models that write, and lie outside a small vocabulary."""


def byte_tokenizer(words: Sequence[str] = (), marks: Iterable[str] = (), **special: Any) -> Qwen2Tokenizer:
    """Return a tokenizer of Qwen's in which each of `words` is one token, wherever it stands, and else each byte is.

    `marks` are such words that no text has; `special` tokens are named as transformers names them.
    """
    vocabulary = {letter: place for place, letter in enumerate(bytes_to_unicode().values())}
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=[], unk_token=END, **special)
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in words])
    tokenizer.add_tokens([AddedToken(turn, special=True) for turn in (*CHAT, *marks)])
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def small(tokenizer: Any, width: int, layers: int = 2) -> dict[str, Any]:
    """Return the sizes of a decoder for `tokenizer`, as transformers names them."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        **NO_TOKENS,
    }


def qwen_vl(tokenizer: Qwen2Tokenizer, width: int) -> Qwen2_5_VLForConditionalGeneration:
    """Return a randomly initialised Qwen2.5-VL, which sees too, for `tokenizer`."""
    sixths = width // 2 // 2 // 4
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2 * sixths, sixths, sixths]}
    sight = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": width}
    known = tokenizer.get_vocab()
    marks = {f"{name}_token_id": known[mark] for name, mark in SIGHT.items() if mark in known}
    text = {**small(tokenizer, width), "rope_parameters": rope}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=sight, **marks)
    return Qwen2_5_VLForConditionalGeneration(config)


def qwen(tokenizer: Qwen2Tokenizer, width: int) -> Qwen3Model:
    """Return a randomly initialised Qwen3, without what it writes by, for `tokenizer`."""
    return Qwen3Model(Qwen3Config(**small(tokenizer, width), head_dim=width // 2))


def qwen_writer(tokenizer: Qwen2Tokenizer, width: int, layers: int) -> Qwen3ForCausalLM:
    """Return a randomly initialised Qwen3 that writes, for `tokenizer`."""
    return Qwen3ForCausalLM(Qwen3Config(**small(tokenizer, width, layers), head_dim=width // 2))


def mistral_vl(tokenizer: Any, width: int, layers: int) -> Mistral3ForConditionalGeneration:
    """Return a randomly initialised Mistral 3, which sees too, for `tokenizer`."""
    text = {"model_type": "mistral", **small(tokenizer, width, layers), "head_dim": width // 2}
    sight = {"model_type": "pixtral", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
             "num_attention_heads": 2, "head_dim": 8}  # fmt: skip
    return Mistral3ForConditionalGeneration(Mistral3Config(text_config=text, vision_config=sight))


def gemma(tokenizer: Any, width: int) -> Gemma2Model:
    """Return a randomly initialised Gemma 2, without what it writes by, for `tokenizer`."""
    return Gemma2Model(Gemma2Config(**small(tokenizer, width), head_dim=width // 2, query_pre_attn_scalar=width // 2))


def llama(tokenizer: Any, width: int, layers: int) -> LlamaModel:
    """Return a randomly initialised Llama, without what it writes by, for `tokenizer`."""
    return LlamaModel(LlamaConfig(**small(tokenizer, width, layers), head_dim=width // 2))


def llama_writer(tokenizer: Any, width: int, layers: int) -> LlamaForCausalLM:
    """Return a randomly initialised Llama that writes, for `tokenizer`."""
    return LlamaForCausalLM(LlamaConfig(**small(tokenizer, width, layers), head_dim=width // 2))


def glm(tokenizer: Any, width: int) -> GlmModel:
    """Return a randomly initialised GLM-4, without what it writes by, for `tokenizer`."""
    return GlmModel(GlmConfig(**small(tokenizer, width), head_dim=width // 2))
