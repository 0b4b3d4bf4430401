"""HiDream-I1 (arXiv:2505.22705): rectified flow by a transformer of experts; each block reads a layer of Llama.

Of four feed-forward experts each token is sent to two. As diffusers evaluates them they pass no gradient (`moe_infer`
runs without), neither to their weights nor to what lies below; the same sum in differentiable form is what diffusers
takes while a module trains. So the experts alone are in that mode, always: a rollout and its update compute alike.

Source: diffusers' `MOEFeedForwardSwiGLU`; the paper, section 3.2.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from diffusers import HiDreamImagePipeline, UniPCMultistepScheduler
from diffusers.models.transformers.transformer_hidream_image import MOEFeedForwardSwiGLU
from torch import Tensor, nn

from limner.core.errors import UserError
from limner.core.types import Condition
from limner.diffusion.timesteps import Grid
from limner.models.hidream.build import tiny_pipeline
from limner.models.hidream.settings import HiDreamSettings
from limner.models.honoured import FLOW, MULTISTEP, Honoured, require_equal, require_parts
from limner.models.parts import flow_times
from limner.models.picture import sides
from limner.models.piped import Family, Piped

TRANSFORMER = Honoured(
    classes=("HiDreamImageTransformer2DModel",),
    free=frozenset(
        "attention_head_dim axes_dims_rope caption_channels in_channels llama_layers max_resolution "
        "num_activated_experts num_attention_heads num_layers num_routed_experts num_single_layers out_channels "
        "text_emb_dim".split()
    ),
    only={"patch_size": (2,)},
    idle=frozenset({"force_inference_output"}),  # the form of the experts' sum
)
AGAIN = replace(  # of the distilled ones, Dev and Fast
    FLOW,
    classes=("FlowMatchLCMScheduler",),
    only={"invert_sigmas": (False,), "scale_factors": (None,)},
    idle=frozenset({"upscale_mode"}),
)
"""Noise is drawn afresh at each time, x_s = (1 - s) x0 + s noise: `CPS(1)`."""
SCHEDULERS = {kind: table for table in (FLOW, MULTISTEP, AGAIN) for kind in table.classes}
TOKENS = (256, 4096)
SHIFTS = (0.5, 1.15)
"""The pipeline's own dynamic shift goes from the first to the last over these, by the most tokens of its network."""


def require(pipeline: Any, settings: HiDreamSettings) -> None:
    """Raise UserError for a pipeline of which a part is not honoured, or whose parts do not fit each other."""
    scheduler = SCHEDULERS.get(type(pipeline.scheduler).__name__, FLOW)
    require_parts(pipeline, TRANSFORMER, scheduler=scheduler)
    has, most = pipeline.transformer.config, pipeline.transformer.max_seq
    pooled = pipeline.text_encoder.config.projection_dim + pipeline.text_encoder_2.config.projection_dim
    widths = [pipeline.text_encoder_3.config.d_model, pipeline.text_encoder_4.config.hidden_size]
    blocks, deepest = has.num_layers + has.num_single_layers, pipeline.text_encoder_4.config.num_hidden_layers
    require_equal("transformer has out_channels", has.out_channels, "it has in_channels", has.in_channels)
    require_equal("transformer has text_emb_dim", has.text_emb_dim, "the first two text encoders give", pooled)
    require_equal("transformer has caption_channels", list(has.caption_channels), "the other two give", widths)
    require_equal("transformer has llama_layers for blocks", len(has.llama_layers), "it has", blocks)
    if max(has.llama_layers) >= deepest:
        raise UserError(f"model: llama_layers of the transformer go to {max(has.llama_layers)}; Llama has {deepest}")
    height, width = sides(settings.resolution, settings.width, own(pipeline), 2 * pipeline.vae_scale_factor)
    tokens = height * width // (2 * pipeline.vae_scale_factor) ** 2
    if height != width and tokens > most:
        raise UserError(f"model: {height} x {width} pixels are {tokens} tokens; no square may have {most} at most")


def own(pipeline: Any) -> tuple[int, int]:
    """Return height and width that the pipeline draws."""
    side = round(pipeline.default_sample_size * pipeline.vae_scale_factor)
    return side, side


def embed(pipeline: Any, settings: HiDreamSettings, texts: list[str]) -> dict[str, Tensor]:
    """Return T5's states of each text, all layers of Llama's, and the pooled ones of both CLIPs."""
    context, _, layers, _, pooled, _ = pipeline.encode_prompt(
        texts,
        do_classifier_free_guidance=False,
        device=pipeline.text_encoder.device,
        max_sequence_length=settings.max_sequence_length,
    )
    return {"context": context, "layers": layers.movedim(0, 1), "pooled": pooled}


def differentiable(network: nn.Module) -> nn.Module:
    """Return the network, its experts summed in the form that passes gradients, whoever set its mode."""
    for module in network.modules():
        if isinstance(module, MOEFeedForwardSwiGLU):
            module.training, module._force_inference_output = True, False
    return network


def predict(model: Piped, x: Tensor, t: Tensor, rows: Condition) -> Tensor:
    """Return the velocity, noise - x0: what the transformer gives, the other way round.

    It is told sizes as numbers, so that no pass waits for an accelerator, and ones for the mask that a square has not.
    """
    level = t * model.pipeline.scheduler.config.num_train_timesteps
    if isinstance(model.pipeline.scheduler, UniPCMultistepScheduler):
        level = level.floor()  # its pipeline tells whole ones
    tokens, mask, _, places = model.pipeline.transformer.patchify(x)
    (found,) = differentiable(model.networks["transformer"])(
        hidden_states=tokens,
        hidden_states_masks=tokens.new_ones(tokens.shape[:2]) if mask is None else mask,
        img_ids=places,
        img_sizes=[(x.shape[-2] // 2, x.shape[-1] // 2)] * len(x),
        timesteps=level,
        encoder_hidden_states_t5=rows["context"],
        encoder_hidden_states_llama3=rows["layers"].movedim(1, 0),
        pooled_embeds=rows["pooled"],
        return_dict=False,
    )
    return -found


def times(pipeline: Any, steps: int, grid: Grid, tokens: int) -> Tensor:
    """Return the scheduler's sigmas; a solver's are equal before their shift in any case."""
    if isinstance(pipeline.scheduler, UniPCMultistepScheduler):
        scheduler = UniPCMultistepScheduler.from_config(pipeline.scheduler.config)
        scheduler.set_timesteps(steps)
        return scheduler.sigmas
    share = (pipeline.transformer.max_seq - TOKENS[0]) / (TOKENS[1] - TOKENS[0])
    return flow_times(
        pipeline.scheduler, steps, grid == "linear", tokens, mu=SHIFTS[0] + share * (SHIFTS[1] - SHIFTS[0])
    )


HIDREAM = Family(
    kind="hidream",
    pipelines=(HiDreamImagePipeline,),
    parts=(
        "scheduler",
        *(f"{part}{number}" for part in ("text_encoder", "tokenizer") for number in ("", "_2", "_3", "_4")),
        "transformer",
        "vae",
    ),
    apart={
        "text_encoder_4": "it is Llama 3.1 8B Instruct, which is published apart; give diffusers both, and train the "
        "folder that save_pretrained writes (docs/models.md)"
    },
    require=require,
    embed=embed,
    predict=predict,
    own=own,
    times=times,
    lora_targets=tuple(
        f"attn1.{layer}{stream}" for layer in ("to_q", "to_k", "to_v", "to_out") for stream in ("", "_t")
    ),
    miniature=tiny_pipeline,
    tiny_settings=HiDreamSettings(resolution=32, max_sequence_length=16),
)
"""Layers of the attention of both streams; the experts stay as they are."""
