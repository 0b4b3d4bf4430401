"""HunyuanImage 2.1 (Tencent, 2025): rectified flow over the latents of an autoencoder of 32 x 32 pixels a token.

Qwen2.5-VL reads the text within an instruction, ByT5 the letters of what stands in quotation marks. Its pipeline guides
by parts of its own, whose momentum remembers earlier steps; no policy that sees x and t can be that, and limner's
guidance is classifier-free, as its pipeline is in its first six steps. The distilled network is told where a step ends
(`use_meanflow`), which a prediction at one time does not know: it is refused.
"""

from __future__ import annotations

from typing import Any

from diffusers import HunyuanImagePipeline
from torch import Tensor

from limner.core.errors import UserError
from limner.core.types import Condition
from limner.models.honoured import Honoured, require_equal, require_parts
from limner.models.hunyuan_image.build import tiny_pipeline
from limner.models.hunyuan_image.settings import HunyuanImageSettings
from limner.models.lora import OF_NETWORK
from limner.models.parts import JOINT_ATTENTION, equal_times, filled, present
from limner.models.piped import Family, Piped

TRANSFORMER = Honoured(
    classes=("HunyuanImageTransformer2DModel",),
    free=frozenset(
        "attention_head_dim in_channels mlp_ratio num_attention_heads num_layers num_refiner_layers "
        "num_single_layers out_channels qk_norm rope_axes_dim rope_theta text_embed_2_dim text_embed_dim".split()
    ),
    only={
        "guidance_embeds": (False,),
        "patch_size": ((1, 1), [1, 1]),
        "use_meanflow": (False,),  # the distilled one's
    },
)
AUTOENCODER = Honoured(
    classes=("AutoencoderKLHunyuanImage",),
    free=frozenset(
        "block_out_channels downsample_match_channel latent_channels layers_per_block scaling_factor "
        "spatial_compression_ratio upsample_match_channel".split()
    ),
    only={"in_channels": (3,), "out_channels": (3,)},
    numbers=frozenset({"scaling_factor"}),
    idle=frozenset({"sample_size"}),  # of tiles
)


def require(pipeline: Any, settings: HunyuanImageSettings) -> None:
    """Raise UserError for a pipeline of which a part is not honoured, or whose parts do not fit each other."""
    require_parts(pipeline, TRANSFORMER, AUTOENCODER)
    has, width = pipeline.transformer.config, pipeline.text_encoder.config.text_config.hidden_size
    letters = pipeline.text_encoder_2.config.d_model
    require_equal("transformer has out_channels", has.out_channels, "it has in_channels", has.in_channels)
    require_equal("transformer has text_embed_dim", has.text_embed_dim, "the text encoder gives", width)
    require_equal("transformer has text_embed_2_dim", has.text_embed_2_dim, "text_encoder_2 gives", letters)


def embed(pipeline: Any, settings: HunyuanImageSettings, texts: list[str]) -> dict[str, Tensor]:
    """Return the states of each text and of what it quotes, and which of them there are.

    Raises UserError for a text of which the pipeline would read more than is kept.
    """
    context, mask, letters, letters_mask = pipeline.encode_prompt(
        texts, device=pipeline.text_encoder.device, batch_size=len(texts)
    )
    length, tokens = settings.max_sequence_length, mask.sum(1)
    if (most := int(tokens.max())) > length:
        raise UserError(
            f"prompt {texts[int(tokens.argmax())]!r:.80} has {most} tokens, and model.settings.max_sequence_length is "
            f"{length}: raise it, to 1000 at most"
        )
    return {
        "context": filled(context, length),
        "mask": present(mask, context, length),
        "letters": letters,
        "letters_mask": letters_mask.bool(),
    }


def predict(model: Piped, x: Tensor, t: Tensor, rows: Condition) -> Tensor:
    """Return the transformer's velocity, noise - x0."""
    (velocity,) = model.networks["transformer"](
        hidden_states=x,
        timestep=(t * model.pipeline.scheduler.config.num_train_timesteps).to(x.dtype),
        encoder_hidden_states=rows["context"],
        encoder_attention_mask=rows["mask"],
        encoder_hidden_states_2=rows["letters"],
        encoder_attention_mask_2=rows["letters_mask"],
        return_dict=False,
    )
    return velocity


HUNYUAN_IMAGE = Family(
    kind="hunyuan_image",
    pipelines=(HunyuanImagePipeline,),
    parts=("scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "transformer", "vae"),
    without={"guider": None, "ocr_guider": None},
    require=require,
    embed=embed,
    predict=predict,
    patch=1,
    times=equal_times,
    lora=OF_NETWORK,
    lora_targets=JOINT_ATTENTION,
    miniature=tiny_pipeline,
    tiny_settings=HunyuanImageSettings(resolution=64, max_sequence_length=24),
)
