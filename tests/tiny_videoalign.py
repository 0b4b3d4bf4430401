"""A miniature of the folder that VideoAlign publishes, on a tiny Qwen2-VL: peft's model of it, and what it saves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
)

REWARDS = ["<|VQ_reward|>", "<|MQ_reward|>", "<|TA_reward|>"]
OWN = ["<unk>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
WORDS = "user assistant how it looks moves is END asked a red blue green cat dog left of : object".split()
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }} {% for c in m['content'] %}{% if c['type'] == 'video' %}"
    "<|vision_start|><|video_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant {% endif %}"
)
TEXT = """
how it looks : <|VQ_reward|> END
how it moves : <|MQ_reward|> END
asked : {text_prompt} is it : <|TA_reward|> END
"""
CODE = (
    f'OTHER = "no {{text_prompt}}"\nDETAILED_PROMPT_WITH_SPECIAL_TOKEN = """{TEXT}"""\nraise SystemExit("it was run")\n'
)
STATISTICS = {"VQ_mean": 0.3, "VQ_std": 2.0, "MQ_mean": -0.2, "MQ_std": 0.5, "TA_mean": 0.1, "TA_std": 1.5}
ALPHA, RANK = 6, 2
ROWS = len([*OWN, *WORDS, *REWARDS])


@dataclass(frozen=True)
class Published:
    """The folders, and what was saved into them: peft's model, the head, and the tokenizer."""

    folder: Path
    base: Path
    model: Any
    head: nn.Linear
    tokenizer: Any

    def raw(self, frames: np.ndarray, text: str, sequential: bool = True) -> Tensor:
        """Return VQ, MQ and TA by peft's model of transformers' own, from levels [frames, height, width, 3].

        transformers' processor makes patches of each frame by itself, twice; the halves of neighbours are put together.
        Without `sequential` positions are Qwen2-VL's own.
        """
        pictures = Qwen2VLImageProcessorPil(do_resize=False)(images=list(frames), return_tensors="pt")
        rows, columns = pictures.image_grid_thw[0, 1:].tolist()
        seen = pictures.pixel_values.view(len(frames) // 2, 2, rows * columns, 3, 2, 14 * 14)
        pixels = torch.stack([seen[:, 0, :, :, 0], seen[:, 1, :, :, 1]], 3).flatten(0, 1).flatten(1)
        asked = TEXT.replace("{text_prompt}", text)
        places = "<|video_pad|>" * (len(pixels) // 4)
        said = f"<|im_start|>user <|vision_start|>{places}<|vision_end|>{asked}<|im_end|><|im_start|>assistant "
        ids = self.tokenizer(said, return_tensors="pt").input_ids
        line = torch.arange(ids.shape[1])
        kind = (ids == self.tokenizer.convert_tokens_to_ids("<|video_pad|>")).int() * 2
        where = {"position_ids": torch.stack([line] * 3)[:, None]} if sequential else {"mm_token_type_ids": kind}
        with torch.no_grad():
            states = self.model(
                input_ids=ids,
                pixel_values_videos=pixels,
                video_grid_thw=torch.tensor([[len(frames) // 2, rows, columns]]),
                output_hidden_states=True,
                **where,
            ).hidden_states[-1][0]
        found = [self.head.weight @ states[ids[0].tolist().index(token)] for token in reward_ids(self)]
        return torch.stack([each[i if len(each) == 3 else 0] for i, each in enumerate(found)]).detach()


def reward_ids(published: Published) -> list[int]:
    return published.tokenizer.convert_tokens_to_ids(REWARDS)


def publish(
    root: Path, outputs: int = 1, low_rank: bool = False, old_names: bool = True, by_root: bool = False
) -> Published:
    """Write `root`/VideoReward and `root`/Qwen2-VL.

    `low_rank` writes updates and head apart from the base's weights; `old_names` are those of transformers 4.45;
    `by_root` divides updates by the root of their rank.
    """
    folder, base = root / "VideoReward", root / "Qwen2-VL"
    tokenizer = _tokenizer(OWN)
    tokenizer.save_pretrained(base)
    torch.manual_seed(11)
    model = Qwen2VLForConditionalGeneration(_config()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter *= 6  # so that inputs differ in what becomes of them
    model.save_pretrained(base)
    layers = [f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")]
    chosen = [n for n, _ in model.named_modules() if "visual" not in n and n.split(".")[-1] in layers]
    lora = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=chosen, init_lora_weights=False, use_rslora=by_root)
    adapted, head = get_peft_model(model, lora).eval(), nn.Linear(16, outputs, bias=False)
    state = adapted.state_dict() | {"base_model.model.rm_head.weight": head.weight.detach()}
    if low_rank:
        with torch.no_grad():
            model.model.visual.merger.ln_q.weight += 0.3
        state["base_model.model.model.visual.merger.ln_q.weight"] = model.model.visual.merger.ln_q.weight.detach()
    if old_names:
        state = {
            n.replace("model.model.language_model.", "model.model.").replace(
                ".model.model.visual.", ".model.visual."
            ): v
            for n, v in state.items()
        }
    (folder / "checkpoint-7").mkdir(parents=True)
    newest = folder / "checkpoint-12"
    words = _tokenizer([*OWN, *REWARDS])
    words.save_pretrained(newest / "tokenizer")
    if low_rank:
        updates = {n.replace(".default", ""): v.contiguous() for n, v in state.items() if "lora_" in n}
        save_file(updates, newest / "adapter_model.safetensors")
        others = {n: v for n, v in state.items() if "rm_head" in n or "merger.ln_q.weight" in n}
        torch.save(others, newest / "non_lora_state_dict.pth")
    else:
        torch.save(state, newest / "model.pth")
    (folder / "prompt_template.py").write_text(CODE)
    (folder / "model_config.json").write_text(json.dumps(config(base, outputs, by_root)))
    return Published(folder, base, adapted, head, words)


def config(base: Path, outputs: int = 1, by_root: bool = False) -> dict[str, Any]:
    """Return what VideoAlign writes about a training, with what its publishers put beside it."""
    return {
        "data_config": {
            "max_frame_pixels": 448 * 448, "num_frames": None, "fps": 2.0, "eval_dim": ["VQ", "MQ", "TA"],
            "prompt_template_type": "detailed_special", "sample_type": "uniform", "meta_data": "", "data_dir": "",
        },
        "training_args": {"learning_rate": 2e-06},
        "model_config": {
            "model_name_or_path": str(base), "output_dim": outputs, "use_special_tokens": True,
            "reward_token": "special",
        },
        "peft_lora_config": {"lora_enable": True, "lora_r": RANK, "lora_alpha": ALPHA, "use_rslora": by_root},
        "inference_config": STATISTICS,
    }  # fmt: skip


def _tokenizer(special: list[str]) -> Any:
    """Return a tokenizer of whole words; the tokens that rewards are read from come last, as published."""
    vocabulary = [*OWN, *WORDS, *(token for token in special if token not in OWN)]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")
    fast.add_tokens(special, special_tokens=True)
    fast.chat_template = CHAT
    return fast


def _config() -> Qwen2VLConfig:
    rope = {"rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]}, "rope_theta": 10.0}
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": ROWS, "num_key_value_heads": 1, "bos_token_id": 1, "eos_token_id": 2, **rope}
    vision = {"depth": 1, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "mlp_ratio": 2}
    tokens = {"vision_start": 3, "vision_end": 4, "image": 5, "video": 6}
    ids = {f"{name}_token_id": number for name, number in tokens.items()}
    return Qwen2VLConfig(text_config=text, vision_config=vision, **ids)
