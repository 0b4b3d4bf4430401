"""What adapters of diffusers' pipelines share: load, freeze, encode, decode, and merge their parts."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from diffusers.utils.peft_utils import recurse_remove_peft_layers
from jaxtyping import Float
from peft import get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerBase,
    T5EncoderModel,
    UMT5EncoderModel,
)

from limner.core.errors import UserError
from limner.core.media import Images
from limner.core.quiet import no_bars
from limner.core.types import Prompt
from limner.models.folder import is_local
from limner.models.intact import HALF, only_half, require_intact

logger = logging.getLogger(__name__)

TEXT_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
ENCODER_KINDS: Mapping[str, Any] = {
    kind.__name__: kind for kind in (CLIPTextModel, CLIPTextModelWithProjection, T5EncoderModel, UMT5EncoderModel)
}
ENCODE_BATCH = 64
DECODE_PIXELS = 2**22
"""Pixels decoded at once on an accelerator: four pictures of 1024 x 1024, some 10 GiB."""
DECODE_PIXELS_CPU = 2**17
"""On a CPU: 32 pictures of 64 x 64. More leave the cache and cost up to a half more (measured)."""


Pipeline = TypeVar("Pipeline", bound=DiffusionPipeline)


def load_pipeline(
    kind: type[Pipeline],
    source: str | Path,
    index: Mapping[str, Any],
    parts: Sequence[str],
    dtype: torch.dtype,
    without: Mapping[str, Any],
) -> Pipeline:
    """Return the pipeline of a folder or hub id, all of whose `parts` must be there, and whole.

    `without` are arguments that tell diffusers what it lacks. The autoencoder stays float32, for it decodes what a
    reward judges. A folder never touches the network. Raises UserError for what cannot be loaded, or lacks weights.
    """
    folder = Path(source).expanduser() if is_local(source) else None
    half: frozenset[str] = frozenset()
    if folder is not None:
        require_intact(folder, index, parts)
        half = only_half(folder, parts)
    if half:
        logger.warning("model: %s holds %s in float16 only, and so it is read", source, ", ".join(sorted(half)))
    try:
        with no_bars():
            stored = {part: _stored(folder is not None, part in half) for part in TEXT_ENCODERS if part in parts}
            where, dtypes = folder or source, {"vae": torch.float32, "default": dtype}
            encoders = {part: _encoder(index[part], where, part, dtype, how) for part, how in stored.items()}
            how = _stored(folder is not None, bool(half))
            pipeline = kind.from_pretrained(where, dtype=dtypes, **how, **without, **encoders)
    except UserError:
        raise
    except Exception as error:  # tokenizers raise bare Exceptions, diffusers and transformers nearly all kinds
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(f"model: {source} cannot be loaded ({reason}); save or download the pipeline again") from error
    for name, part in pipeline.components.items():
        if isinstance(part, nn.Module):
            _require_weights(source, name, [key for key, each in part.named_parameters() if each.is_meta])
    return pipeline


def _stored(local: bool, half: bool) -> dict[str, Any]:
    """Return how a library is told where files are, and which variant of them."""
    return ({"local_files_only": True} if local else {}) | ({"variant": HALF} if half else {})


def _encoder(named: Sequence[str], source: str | Path, part: str, dtype: torch.dtype, stored: Mapping[str, Any]) -> Any:
    """Return a text encoder; left to diffusers, one that lacks weights would get random ones, and a warning."""
    if named[1] not in ENCODER_KINDS:
        known = ", ".join(ENCODER_KINDS)
        raise UserError(f"model: {source} cannot be loaded: its {part} is a {named[1]}, and limner serves {known}")
    load = ENCODER_KINDS[named[1]].from_pretrained
    encoder, found = load(source, subfolder=part, dtype=dtype, output_loading_info=True, **stored)
    _require_weights(source, part, sorted(found["missing_keys"]))
    return encoder


def _require_weights(source: str | Path, part: str, missing: Sequence[str]) -> None:
    if missing:
        raise UserError(
            f"model: {source} lacks {len(missing)} of the weights of its {part}, such as {missing[0]}; save or "
            "download the pipeline again"
        )


def freeze(pipeline: DiffusionPipeline, trained: Sequence[nn.Module]) -> None:
    """Put all parts in evaluation mode, and let only `trained` have gradients."""
    if isinstance(pipeline.vae, AutoencoderKL):
        pipeline.vae.to(memory_format=torch.channels_last)  # decodes a third faster on a CPU
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            part.eval().requires_grad_(any(part is each for each in trained))
        elif isinstance(part, PreTrainedTokenizerBase):  # diffusers cuts long prompts, and says so better
            part.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True


def text_encoders(pipeline: DiffusionPipeline) -> list[nn.Module]:
    """Return what a pipeline encodes texts by."""
    parts = pipeline.components
    return [parts[name] for name in TEXT_ENCODERS if isinstance(parts.get(name), nn.Module)]


def encode_once(
    prompts: Sequence[Prompt],
    encode: Callable[[list[str]], dict[str, Tensor]],
    dtype: torch.dtype,
    device: torch.device,
    negative_prompt: str,
) -> dict[str, Tensor]:
    """Return the rows that `encode` makes of each prompt and, last, of the negative one.

    A few texts are encoded at a time, equal ones once.
    """
    texts = [*(prompt.text for prompt in prompts), negative_prompt]
    unique = list(dict.fromkeys(texts))
    parts = [encode(unique[start : start + ENCODE_BATCH]) for start in range(0, len(unique), ENCODE_BATCH)]
    place = {text: i for i, text in enumerate(unique)}
    rows = torch.tensor([place[text] for text in texts])
    return {name: torch.cat([part[name] for part in parts])[rows].to(device, dtype) for name in parts[0]}


def at_once(device: torch.device, pixels: int) -> int:
    """Return how many pictures, or clips, of so many pixels an autoencoder takes at a time there."""
    return max(1, (DECODE_PIXELS_CPU if device.type == "cpu" else DECODE_PIXELS) // pixels)


def decode(vae: Any, sample: Float[Tensor, "batch channels height width"], cell: int) -> Images:
    """Return the pictures, `cell` pixels for each of a latent's, that the autoencoder decodes, a few at a time.

    It is differentiable in `sample`.
    """
    shift = vae.config.shift_factor or 0.0
    latents = sample.to(vae.dtype) / vae.config.scaling_factor + shift
    parts = latents.split(at_once(sample.device, cell**2 * sample[0, 0].numel()))
    decoded = torch.cat([vae.decode(part, return_dict=False)[0] for part in parts])
    return Images((decoded.float() / 2 + 0.5).clamp(0, 1))


@torch.no_grad()
def encode(vae: Any, frames: Float[Tensor, "batch 1 3 height width"]) -> Float[Tensor, "batch channels h w"]:
    """Return the means of the autoencoder's posteriors, on the scale that `decode` takes, a few pictures at a time."""
    pixels = 2 * frames[:, 0].to(vae.device, vae.dtype) - 1
    parts = pixels.split(at_once(vae.device, pixels[0, 0].numel()))
    means = torch.cat([vae.encode(part).latent_dist.mean for part in parts])
    return ((means - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor).float()


def flow_times(scheduler: Any, steps: int, equal: bool, tokens: int) -> Float[Tensor, " points"]:
    """Return the sigmas of a flow scheduler, shifted as its configuration says: `steps + 1`, last 0.

    Its own steps crowd at the end (see `flow_grid`); `equal` ones are so before the shift. A dynamic shift follows the
    number of `tokens` of a picture:

        mu = base_shift + (max_shift - base_shift) (tokens - base_len) / (max_len - base_len)

    Source: `calculate_shift` of diffusers' pipelines; Esser et al., arXiv:2403.03206, section 5.3.2.
    """
    config = scheduler.config
    made = FlowMatchEulerDiscreteScheduler.from_config(config)
    mu = None
    if config.use_dynamic_shifting:
        share = (tokens - config.base_image_seq_len) / (config.max_image_seq_len - config.base_image_seq_len)
        mu = config.base_shift + share * (config.max_shift - config.base_shift)
    if equal:
        made.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps), mu=mu)
    else:
        made.set_timesteps(steps, mu=mu)
    return made.sigmas


def packed(x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch tokens features"]:
    """Return a token for each 2 x 2 latent pixels, row by row, its features channel by channel."""
    cells = x.unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2))
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpacked(
    tokens: Float[Tensor, "batch tokens features"], size: tuple[int, int]
) -> Float[Tensor, "batch channels height width"]:
    """Return the latents of height and width `size` that were `packed`."""
    cells = tokens.unflatten(1, (size[0] // 2, size[1] // 2)).unflatten(-1, (-1, 2, 2))
    return cells.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def save_lora(pipeline: Any, folder: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write a LoRA of the transformer as `pipeline.load_lora_weights(folder)` reads it."""
    pipeline.save_lora_weights(folder, transformer_lora_layers=tensors, transformer_lora_adapter_metadata=metadata)


def merged(network: Any, adapter: str) -> Any:
    """Return the network with its LoRA `adapter` added into a copy of its weights, or itself without one."""
    if not any(isinstance(module, BaseTunerLayer) for module in network.modules()):
        return network
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, BaseTunerLayer):
            module.merge(adapter_names=[adapter])
    recurse_remove_peft_layers(network)
    return network


def folded(network: Any, adapter: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of the network's LoRA `adapter`, its scale alpha / rank folded into B, and its metadata.

    Many tools read the tensors and nothing else, and take alpha for the rank: so it is, in the metadata too.
    """
    config = network.peft_config[adapter]
    scale = config.lora_alpha / config.r
    tensors = get_peft_model_state_dict(network, adapter_name=adapter)
    tensors = {name: scale * each if "lora_B" in name else each for name, each in tensors.items()}
    return tensors, config.to_dict() | {"lora_alpha": config.r}
