"""What adapters of diffusers' pipelines share: load, freeze, encode, decode, and merge their parts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import transformers
from diffusers import AutoencoderKL, DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from limner.core.edition import Edition
from limner.core.errors import UserError
from limner.core.media import Images
from limner.core.quiet import in_silence
from limner.core.shortage import is_short
from limner.core.types import Prompt
from limner.models.folder import edition_of, is_local
from limner.models.hollow import hollow
from limner.models.intact import HALF, in_variant, only_half, require_all_layers, require_intact
from limner.models.quantized import quantize

logger = logging.getLogger(__name__)

NETWORKS = ("transformer", "transformer_2", "unet")
"""What predicts, and may be trained."""
TEXT_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3", "text_encoder_4")
ENCODER_KINDS = (
    "CLIPTextModel",
    "CLIPTextModelWithProjection",
    "T5EncoderModel",
    "UMT5EncoderModel",
    "Qwen2_5_VLForConditionalGeneration",
    "Qwen3Model",
    "Qwen3ForCausalLM",
    "Gemma2Model",
    "GlmModel",
    "Mistral3ForConditionalGeneration",
    "LlamaModel",
    "LlamaForCausalLM",
    "BertModel",
)
"""Classes of transformers that texts are encoded by."""
JOINT_ATTENTION = (
    "attn.to_q",
    "attn.to_k",
    "attn.to_v",
    "attn.to_out.0",
    "attn.add_q_proj",
    "attn.add_k_proj",
    "attn.add_v_proj",
    "attn.to_add_out",
)
"""Layers of diffusers' attention over pictures and texts together, of both streams: what LoRA usually adapts."""
MAX_REASON = 200
"""Characters of what a library says for itself."""
ENCODE_BATCH = 64
DECODE_PIXELS = 2**22
"""Pixels decoded at once on an accelerator: four pictures of 1024 x 1024, some 10 GiB."""
DECODE_PIXELS_CPU = 2**17
"""On a CPU: 32 pictures of 64 x 64. More leave the cache and cost up to a half more (measured)."""

Pipeline = TypeVar("Pipeline", bound=DiffusionPipeline)


def load_pipeline(
    kind: type[Pipeline],
    source: str | Path | Edition,
    index: Mapping[str, Any],
    parts: Sequence[str],
    dtype: torch.dtype,
    without: Mapping[str, Any],
    readers: Mapping[str, Callable[..., Any]] | None = None,
) -> Pipeline:
    """Return the pipeline of a folder or hub id, all of whose `parts` must be there, and whole.

    `without` are arguments that tell diffusers what it lacks, and `readers` read parts in its place. The autoencoder
    stays float32, for it decodes what a reward judges. A folder never touches the network. Raises UserError for what
    cannot be loaded, or lacks weights.
    """
    edition = edition_of(source)
    folder = Path(edition.place).expanduser() if is_local(source) else None
    variant, varied = edition.variant, frozenset(parts)
    if folder is not None:
        require_intact(folder, index, parts)
        varied = in_variant(folder, parts, variant) if variant else only_half(folder, parts)
        if varied and not variant:
            variant = HALF
            logger.warning("model: %s holds %s in float16 only, and so it is read", source, ", ".join(sorted(varied)))
    try:
        with in_silence():
            where, dtypes = folder or edition.place, {"vae": torch.float32, "default": dtype}
            how: dict[str, Any] = {"local_files_only": True} if folder else {"revision": edition.revision or None}
            encoders = {
                part: _encoder(
                    index[part], where, part, dtype, how | {"variant": variant if part in varied and variant else None}
                )
                for part in TEXT_ENCODERS
                if part in parts
            }
            empty = hollow(index, [part for part in NETWORKS if edition.hollow and part in parts], where, how)
            made = {name: read(where, subfolder=name, **how) for name, read in (readers or {}).items()}
            how |= {"variant": variant or None}
            pipeline = kind.from_pretrained(where, dtype=dtypes, **how, **without, **encoders, **empty, **made)
    except UserError:
        raise
    except Exception as error:  # tokenizers raise bare Exceptions, diffusers and transformers nearly all kinds
        reason = " ".join(str(error).partition(" If you want")[0].split())[:MAX_REASON] or type(error).__name__
        if is_short(error):
            raise
        raise UserError(f"model: {source} cannot be loaded ({reason}); save or download the pipeline again") from error
    for name, part in pipeline.components.items():
        if isinstance(part, nn.Module):
            if name not in empty:
                _require_weights(source, name, [key for key, each in part.named_parameters() if each.is_meta])
            if folder is not None:
                require_all_layers(folder, name, part)
            if name in NETWORKS:
                quantize(part, edition.quantize, dtype)
    return pipeline


def _encoder(named: Sequence[str], source: str | Path, part: str, dtype: torch.dtype, stored: Mapping[str, Any]) -> Any:
    """Return a text encoder; left to diffusers, one that lacks weights would get random ones, and a warning."""
    if named[1] not in ENCODER_KINDS:
        known = ", ".join(ENCODER_KINDS)
        raise UserError(f"model: {source} cannot be loaded: its {part} is a {named[1]}, and limner serves {known}")
    return of_transformers(getattr(transformers, named[1]), source, part, dtype, subfolder=part, **stored)


def of_transformers(kind: Any, source: str | Path, part: str, dtype: torch.dtype, **stored: Any) -> Any:
    """Return a model of transformers. Raises UserError if its files lack some of its weights, or hold others."""
    found, said = kind.from_pretrained(
        source, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True, **stored
    )
    _require_weights(source, part, sorted(said["missing_keys"]))
    if said["mismatched_keys"]:
        name, held, wanted = sorted(said["mismatched_keys"])[0]
        raise UserError(
            f"model: {source} has weights of its {part} in another shape than its configuration says: {name} is "
            f"{tuple(held)}, not {tuple(wanted)}; save or download the pipeline again"
        )
    return found


def _require_weights(source: object, part: str, missing: Sequence[str]) -> None:
    if missing:
        raise UserError(
            f"model: {source} lacks {len(missing)} of the weights of its {part}, such as {missing[0]}; save or "
            "download the pipeline again"
        )


def freeze(pipeline: DiffusionPipeline, trained: Sequence[nn.Module]) -> None:
    """Put all parts in evaluation mode, and let only `trained` have gradients."""
    if isinstance(pipeline.components.get("vae"), AutoencoderKL):
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
    encode_negative: Callable[[list[str]], dict[str, Tensor]] | None = None,
) -> dict[str, Tensor]:
    """Return the rows that `encode` makes of each prompt and, last, of the negative one.

    A few texts are encoded at a time, equal ones once. Numbers are brought to `dtype`; masks stay what they are.
    """
    texts = [prompt.text for prompt in prompts]
    if encode_negative is None:
        texts.append(negative_prompt)
    unique = list(dict.fromkeys(texts))
    parts = [encode(unique[start : start + ENCODE_BATCH]) for start in range(0, len(unique), ENCODE_BATCH)]
    place = {text: i for i, text in enumerate(unique)}
    rows = [place[text] for text in texts]
    if encode_negative is not None:
        parts.append(encode_negative([negative_prompt]))
        rows.append(len(unique))
    joined = {name: torch.cat([part[name] for part in parts])[torch.tensor(rows)] for name in parts[0]}
    return {name: each.to(device, dtype if each.is_floating_point() else each.dtype) for name, each in joined.items()}


def filled(rows: Float[Tensor, "texts tokens width"], length: int) -> Float[Tensor, "texts length width"]:
    """Return states of texts that are `length` tokens long, zeros where the texts are shorter."""
    return nn.functional.pad(rows[:, :length], (0, 0, 0, max(0, length - rows.shape[1])))


def present(
    mask: Num[Tensor, "texts tokens"] | None, rows: Float[Tensor, "texts tokens width"], length: int
) -> Bool[Tensor, "texts length"]:
    """Return which of `length` tokens are of the text; without a `mask` all those of `rows` are."""
    known = torch.ones(rows.shape[:2], dtype=torch.bool, device=rows.device) if mask is None else mask.bool()
    return nn.functional.pad(known[:, :length], (0, max(0, length - known.shape[1])))


def at_once(device: torch.device, pixels: int) -> int:
    """Return how many pictures, or clips, of so many pixels an autoencoder takes at a time there."""
    return max(1, (DECODE_PIXELS_CPU if device.type == "cpu" else DECODE_PIXELS) // pixels)


def decode(vae: Any, sample: Float[Tensor, "batch channels height width"], cell: int) -> Images:
    """Return the pictures, `cell` pixels for each of a latent's, that the autoencoder decodes, a few at a time.

    It is differentiable in `sample`.
    """
    shift = vae.config.get("shift_factor") or 0.0
    return Images(shown(vae, sample / vae.config.scaling_factor + shift, cell**2 * sample[0, 0].numel()))


def shown(
    vae: Any,
    latents: Float[Tensor, "batch *latent"],
    pixels: int,
    decode: Callable[[Any, Tensor], Tensor] = lambda vae, latents: vae.decode(latents, return_dict=False)[0],
) -> Float[Tensor, "batch 3 *frames"]:
    """Return in [0, 1] what the autoencoder decodes of its own latents, a few of so many `pixels` at a time."""
    parts = latents.to(vae.device, vae.dtype).split(at_once(vae.device, pixels))
    decoded = torch.cat([decode(vae, part) for part in parts])
    return (decoded.float() / 2 + 0.5).clamp(0, 1)


def seen(vae: Any, pixels: Float[Tensor, "batch 3 *frames"]) -> Float[Tensor, "batch *latent"]:
    """Return the means of the autoencoder's posteriors of what is in [0, 1], a few at a time, as `shown` takes them."""
    levels = 2 * pixels.to(vae.device, vae.dtype) - 1
    parts = levels.split(at_once(vae.device, pixels[0, 0].numel()))
    return torch.cat([vae.encode(part).latent_dist.mean for part in parts])


def statistics(vae: Any) -> tuple[Float[Tensor, "channels 1 1 1"], Float[Tensor, "channels 1 1 1"]]:
    """Return mean and std of each channel of the latents of an autoencoder of clips, as its configuration has them."""
    mean, std = torch.tensor([vae.config.latents_mean, vae.config.latents_std], device=vae.device)
    return mean.view(-1, 1, 1, 1), std.view(-1, 1, 1, 1)


@torch.no_grad()
def encode(vae: Any, frames: Float[Tensor, "batch 1 3 height width"]) -> Float[Tensor, "batch channels h w"]:
    """Return the means of the autoencoder's posteriors, on the scale that `decode` takes, a few pictures at a time."""
    return ((seen(vae, frames[:, 0]) - (vae.config.get("shift_factor") or 0.0)) * vae.config.scaling_factor).float()


def positions(mask: Int[Tensor, "batch places"]) -> Int[Tensor, "batch places"]:
    """Return the place of each token that is there, as `generate` counts; those that are not stand at 0."""
    return (mask.cumsum(1) - 1).clamp(min=0)


def flow_times(
    scheduler: Any, steps: int, equal: bool, tokens: int, mu: float | None = None
) -> Float[Tensor, " points"]:
    """Return the sigmas of a flow scheduler, shifted as its configuration says: `steps + 1`, last 0.

    Its own steps crowd at the end (see `flow_grid`); `equal` ones are so before the shift. A dynamic shift follows the
    number of `tokens` of a picture, unless `mu` says how far it is:

        mu = base_shift + (max_shift - base_shift) (tokens - base_len) / (max_len - base_len)

    Raises UserError if they do not fall, as with a shift that is no positive number.

    Source: `calculate_shift` of diffusers' pipelines; Esser et al., arXiv:2403.03206, section 5.3.2.
    """
    config = scheduler.config
    made = FlowMatchEulerDiscreteScheduler.from_config(config)
    if config.use_dynamic_shifting and mu is None:
        share = (tokens - config.base_image_seq_len) / (config.max_image_seq_len - config.base_image_seq_len)
        mu = config.base_shift + share * (config.max_shift - config.base_shift)
    if equal:
        made.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps), mu=mu)
    else:
        made.set_timesteps(steps, mu=mu)
    falling = made.sigmas[:-1] > made.sigmas[1:]
    if made.sigmas[0] > 1 or not falling.all():
        raise UserError(
            f"scheduler: its times must fall from at most 1 to 0, and begin {made.sigmas[:3].tolist()}; mend the shift "
            f"({config.shift}) in scheduler_config.json"
        )
    return made.sigmas


def equal_times(pipeline: Any, steps: int, grid: str, tokens: int) -> Float[Tensor, " points"]:
    """Return the times of a pipeline that gives its scheduler equal ones, whichever `grid` is asked for."""
    return flow_times(pipeline.scheduler, steps, True, tokens)
