"""Published FLUX.2 checkpoints, as diffusers' `convert_flux2_to_diffusers.py` makes their networks."""

from __future__ import annotations

from dataclasses import replace

from limner.models.published import QWEN3_4B, Part, Published

MISTRAL_24B = Part("Mistral3ForConditionalGeneration", 24_011_361_280, {"tie_word_embeddings": False})
"""Mistral Small 3.2, the model of transformers' defaults."""
PUBLISHED = {
    "flux2_dev": Published(
        hub="black-forest-labs/FLUX.2-dev",
        licence="FLUX Non-Commercial",
        prediction="velocity",
        network=Part("Flux2Transformer2DModel", 32_223_281_152),
        autoencoder=Part("AutoencoderKLFlux2", 84_046_115),
        encoders=(MISTRAL_24B,),
        latent=(128, 64, 64),
        cell=16,
    ),
}
KLEIN = replace(
    PUBLISHED["flux2_dev"],
    hub="black-forest-labs/FLUX.2-klein-4B",
    licence="Apache-2.0",
    network=Part(
        "Flux2Transformer2DModel",
        3_875_544_576,
        {
            "num_layers": 5,
            "num_single_layers": 20,
            "num_attention_heads": 24,
            "joint_attention_dim": 7680,
            "guidance_embeds": False,
        },
    ),
    encoders=(replace(QWEN3_4B, kind="Qwen3ForCausalLM", config={**QWEN3_4B.config, "tie_word_embeddings": True}),),
)
PUBLISHED_KLEIN = {
    "flux2_klein_4b": KLEIN,
    "flux2_klein_base_4b": replace(KLEIN, hub="black-forest-labs/FLUX.2-klein-base-4B"),
}
