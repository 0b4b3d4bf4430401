"""Miniatures of the vision models that rewards load: random weights, saved as transformers saves the big ones."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import (
    BlipConfig,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
    VJEPA2Config,
    VJEPA2Model,
)

from limner.objectives.lapse import Lapse
from limner.rewards.learned.design import Design
from limner.rewards.learned.folder import write
from limner.rewards.learned.network import Ensemble

WORDS = "a red blue green cat dog left of photo picture object yes no Yes No Does this show Please answer or".split()
SPECIAL = ["<pad>", "<start>", "<unk>", "<image>", "<end>"]
VOCABULARY = [*SPECIAL[:-1], *WORDS, SPECIAL[-1]]
"""The end token is the last, as in CLIP."""
END = len(VOCABULARY) - 1
SIZE = 16
WEIGHTS = Path(os.environ.get("LIMNER_WEIGHTS", "no folder of weights"))


def tokenizer(folder: Path) -> None:
    """Save a tokenizer of whole words that adds a start and an end."""
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", END)]
    )
    names = {"pad_token": "<pad>", "bos_token": "<start>", "unk_token": "<unk>", "eos_token": "<end>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=core, **names, extra_special_tokens={"image_token": "<image>"})
    fast.save_pretrained(folder)


def clip_config(hidden_act: str = "quick_gelu") -> CLIPConfig:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes["hidden_act"] = hidden_act
    text = {**sizes, "vocab_size": len(VOCABULARY), "max_position_embeddings": 8, "eos_token_id": END}
    text |= {"bos_token_id": 1, "pad_token_id": 0}
    vision = {**sizes, "image_size": SIZE, "patch_size": 4}
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)


def clip(folder: Path, seed: int = 0) -> CLIPModel:
    """Save a CLIP with its tokenizer; larger weights than usual, so that different inputs differ."""
    torch.manual_seed(seed)
    model = CLIPModel(clip_config()).eval()
    spread(model)
    model.save_pretrained(folder)
    tokenizer(folder)
    return model


def spread(model: torch.nn.Module, factor: float = 6.0) -> None:
    """Make matrices `factor` times larger."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter *= factor


def aesthetic_head(file: Path, width: int = 12) -> dict[str, Tensor]:
    """Save a head as LAION did: linear layers at 0, 2, 4, 6 and 7."""
    torch.manual_seed(1)
    sizes, state = (width, 1024, 128, 64, 16, 1), {}
    for place, a, b in zip((0, 2, 4, 6, 7), sizes, sizes[1:], strict=False):
        state[f"layers.{place}.weight"], state[f"layers.{place}.bias"] = torch.randn(b, a) / a**0.5, torch.randn(b)
    torch.save(state, file)
    return state


def open_clip_state(config: CLIPConfig, seed: int = 0) -> dict[str, Tensor]:
    """Return random weights under the names and in the layout of open_clip's CLIP."""
    rng = torch.Generator().manual_seed(seed)
    text, vision = config.text_config, config.vision_config
    patches = (vision.image_size // vision.patch_size) ** 2
    shapes = {
        "logit_scale": (),
        "positional_embedding": (text.max_position_embeddings, text.hidden_size),
        "token_embedding.weight": (text.vocab_size, text.hidden_size),
        "ln_final.weight": (text.hidden_size,),
        "ln_final.bias": (text.hidden_size,),
        "text_projection": (text.hidden_size, config.projection_dim),
        "visual.class_embedding": (vision.hidden_size,),
        "visual.positional_embedding": (patches + 1, vision.hidden_size),
        "visual.conv1.weight": (vision.hidden_size, 3, vision.patch_size, vision.patch_size),
        "visual.proj": (vision.hidden_size, config.projection_dim),
    }
    for norm in ("visual.ln_pre", "visual.ln_post"):
        shapes |= {f"{norm}.weight": (vision.hidden_size,), f"{norm}.bias": (vision.hidden_size,)}
    for tower, part in (("visual.", vision), ("", text)):
        for layer in range(part.num_hidden_layers):
            prefix, d, m = f"{tower}transformer.resblocks.{layer}", part.hidden_size, part.intermediate_size
            shapes |= {f"{prefix}.{norm}.{kind}": (d,) for norm in ("ln_1", "ln_2") for kind in ("weight", "bias")}
            shapes |= {f"{prefix}.attn.in_proj_weight": (3 * d, d), f"{prefix}.attn.in_proj_bias": (3 * d,)}
            shapes |= {f"{prefix}.attn.out_proj.weight": (d, d), f"{prefix}.attn.out_proj.bias": (d,)}
            shapes |= {f"{prefix}.mlp.c_fc.weight": (m, d), f"{prefix}.mlp.c_fc.bias": (m,)}
            shapes |= {f"{prefix}.mlp.c_proj.weight": (d, m), f"{prefix}.mlp.c_proj.bias": (d,)}
    return {name: torch.randn(shape, generator=rng) * 0.4 for name, shape in shapes.items()}


def dino(folder: Path) -> Dinov2Model:
    torch.manual_seed(2)
    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=SIZE, patch_size=4, mlp_ratio=2
    )
    model = Dinov2Model(config).eval()
    spread(model)
    model.save_pretrained(folder)
    return model


def siglip(folder: Path) -> SiglipModel:
    torch.manual_seed(7)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": len(VOCABULARY), "max_position_embeddings": 8, "pad_token_id": 0}
    text |= {"bos_token_id": 1, "eos_token_id": END, "projection_size": 16}
    model = SiglipModel(
        SiglipConfig(text_config=text, vision_config={**sizes, "image_size": SIZE, "patch_size": 4})
    ).eval()
    spread(model, 3.0)
    model.save_pretrained(folder)
    tokenizer(folder)
    return model


def vjepa2(folder: Path) -> VJEPA2Model:
    torch.manual_seed(6)
    encoder = {"hidden_size": 12, "num_attention_heads": 2, "num_hidden_layers": 2}
    predictor = {f"pred_{name}": size for name, size in encoder.items()}
    config = VJEPA2Config(
        patch_size=16, crop_size=32, frames_per_clip=8, pred_zero_init_mask_tokens=False, **encoder, **predictor
    )
    model = VJEPA2Model(config).eval()
    spread(model)
    model.save_pretrained(folder)
    return model


def llava(folder: Path) -> LlavaForConditionalGeneration:
    torch.manual_seed(3)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlavaConfig(
        vision_config={"model_type": "clip_vision_model", **sizes, "image_size": SIZE, "patch_size": 4},
        text_config={"model_type": "llama", **sizes, "vocab_size": len(VOCABULARY), "num_key_value_heads": 2},
        image_token_index=VOCABULARY.index("<image>"),
        vision_feature_layer=-1,
    )
    model = LlavaForConditionalGeneration(config).eval()
    spread(model)
    model.save_pretrained(folder)
    tokenizer(folder)
    pictures = CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    words = PreTrainedTokenizerFast.from_pretrained(folder)
    LlavaProcessor(
        pictures, words, patch_size=4, vision_feature_select_strategy="default", num_additional_image_tokens=1
    ).save_pretrained(folder)
    return model


def mask2former(folder: Path, labels: dict[int, str]) -> Mask2FormerForUniversalSegmentation:
    torch.manual_seed(4)
    backbone = {
        "model_type": "swin", "image_size": 64, "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2],
        "window_size": 2, "out_features": ["stage1", "stage2", "stage3", "stage4"],
    }  # fmt: skip
    config = Mask2FormerConfig(
        backbone_config=backbone, feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=16,
        encoder_layers=1, decoder_layers=2, num_attention_heads=2, dim_feedforward=16, num_queries=6, id2label=labels,
        label2id={name: number for number, name in labels.items()},
    )  # fmt: skip
    model = Mask2FormerForUniversalSegmentation(config).eval()
    model.save_pretrained(folder)
    return model


def blip_config(folder: Path) -> BlipConfig:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": len(VOCABULARY), "max_position_embeddings": 40, "encoder_hidden_size": 16}
    text |= {"bos_token_id": 1, "pad_token_id": 0, "eos_token_id": END, "sep_token_id": END}
    config = BlipConfig(text_config=text, vision_config={**sizes, "image_size": 64, "patch_size": 4})
    config.save_pretrained(folder)
    tokenizer(folder)
    return config


EYE, READ = "blip.visual_encoder", "blip.text_encoder"


def image_reward_state() -> dict[str, Tensor]:
    """Return random weights under the authors' names: width 16, two layers and heads, 4 x 4 patches of 4 pixels."""
    rng = torch.Generator().manual_seed(0)
    d, m, words = 16, 24, len(VOCABULARY)
    shapes: dict[str, tuple[int, ...]] = {
        f"{EYE}.cls_token": (1, 1, d), f"{EYE}.pos_embed": (1, 17, d), f"{EYE}.patch_embed.proj.weight": (d, 3, 4, 4),
        f"{EYE}.patch_embed.proj.bias": (d,), f"{READ}.embeddings.word_embeddings.weight": (words, d),
        f"{READ}.embeddings.position_embeddings.weight": (40, d),
    }  # fmt: skip
    dense: dict[str, tuple[int, int]] = {}
    norms = [f"{EYE}.norm", f"{READ}.embeddings.LayerNorm"]
    for layer in range(2):
        eye, read = f"{EYE}.blocks.{layer}", f"{READ}.encoder.layer.{layer}"
        norms += [f"{eye}.norm1", f"{eye}.norm2", f"{read}.output.LayerNorm"]
        dense |= {f"{eye}.attn.qkv": (3 * d, d), f"{eye}.attn.proj": (d, d)}
        dense |= {f"{eye}.mlp.fc1": (m, d), f"{eye}.mlp.fc2": (d, m)}
        dense |= {f"{read}.intermediate.dense": (m, d), f"{read}.output.dense": (d, m)}
        for kind in ("attention", "crossattention"):
            dense |= {f"{read}.{kind}.self.{part}": (d, d) for part in ("query", "key", "value")}
            dense[f"{read}.{kind}.output.dense"] = (d, d)
            norms.append(f"{read}.{kind}.output.LayerNorm")
    sizes = (d, 1024, 128, 64, 16, 1)
    for place, a, b in zip((0, 2, 4, 6, 7), sizes, sizes[1:], strict=False):
        dense[f"mlp.layers.{place}"] = (b, a)
    for name, shape in dense.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name in norms:
        shapes |= {f"{name}.weight": (d,), f"{name}.bias": (d,)}
    state = {name: torch.randn(shape, generator=rng) * 1.5 * shape[-1] ** -0.5 for name, shape in shapes.items()}
    return state | {f"{name}.weight": 1 + state[f"{name}.weight"] for name in norms}


def svm(folder: Path) -> tuple[str, str, np.ndarray]:
    """Save a regression on BRISQUE's features with three support vectors; return its two files and the table it holds.

    A row of the table is a weight and its vector; gamma is 0.05, rho -20.5, and feature i goes from -1 - i / 40 to
    2 + i / 50, counted from zero.
    """
    rng = np.random.default_rng(3)
    weights, vectors = rng.normal(size=3).round(4) * 40, rng.uniform(-1, 1, (3, 36)).round(3)
    vectors[1, 5] = 0.0  # libsvm leaves zeros out
    rows = [
        " ".join([f"{w:.6f}", *(f"{i + 1}:{x}" for i, x in enumerate(v) if x)])
        for w, v in zip(weights, vectors, strict=True)
    ]
    head = ["svm_type epsilon_svr", "kernel_type rbf", "gamma 0.05", "nr_class 2", "total_sv 3", "rho -20.5", "SV"]
    (folder / "model").write_text("\n".join([*head, *rows, ""]))
    (folder / "ranges").write_text("x\n-1 1\n" + "".join(f"{i + 1} {-1 - i / 40} {2 + i / 50}\n" for i in range(36)))
    return str(folder / "model"), str(folder / "ranges"), np.column_stack([weights, vectors])


def learned(folder: Path) -> None:
    """Write a learned reward of one question."""
    torch.manual_seed(0)
    design, words = Design(edge=32, width=16, members=2), ("a", "red", "cat")
    ensemble = Ensemble(design, words, 1)
    about = "what people prefer: nothing"
    write(folder, design, ("overall",), words, (1.0,), (0.0,), (Lapse(),), ensemble, about, (), {}, {})


def needs_weights(*files: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Mark a test that compares with published values; skip it unless $LIMNER_WEIGHTS is a folder with these files."""
    missing = [name for name in files if not (WEIGHTS / name).exists()]
    skip = pytest.mark.skipif(bool(missing), reason=f"needs published files in $LIMNER_WEIGHTS: {', '.join(missing)}")
    return lambda test: pytest.mark.needs_weights(skip(test))
