"""Published Z-Image checkpoints."""

from __future__ import annotations

from limner.models.published import Part, Published, autoencoder

QWEN3_4B = Part(
    "Qwen3Model",
    4_022_468_096,
    {
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
    },
)
PUBLISHED = {
    "z_image_turbo": Published(
        hub="Tongyi-MAI/Z-Image-Turbo",
        licence="Apache-2.0",
        prediction="velocity",
        network=Part("ZImageTransformer2DModel", 6_154_908_736),
        autoencoder=autoencoder(16, quant=False),
        encoders=(QWEN3_4B,),
        latent=(16, 128, 128),
    ),
}
