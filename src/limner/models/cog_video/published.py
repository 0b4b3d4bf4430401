"""Published CogVideoX checkpoints."""

from __future__ import annotations

from limner.models.published import T5_XXL, Part, Published

LARGE = {
    "num_attention_heads": 48,
    "num_layers": 42,
    "use_rotary_positional_embeddings": True,
}
PUBLISHED = {
    "cog_video_2b": Published(
        hub="zai-org/CogVideoX-2b",
        licence="Apache-2.0",
        prediction="v",
        network=Part("CogVideoXTransformer3DModel", 1_693_783_872),
        autoencoder=Part("AutoencoderKLCogVideoX", 215_583_907, {"latent_channels": 16}),
        encoders=(T5_XXL,),
        latent=(16, 13, 60, 90),
    ),
    "cog_video_5b": Published(
        hub="zai-org/CogVideoX-5b",
        licence="its own (CogVideoX)",
        prediction="v",
        network=Part("CogVideoXTransformer3DModel", 5_570_283_072, LARGE),
        autoencoder=Part("AutoencoderKLCogVideoX", 215_583_907, {"latent_channels": 16}),
        encoders=(T5_XXL,),
        latent=(16, 13, 60, 90),
    ),
}
