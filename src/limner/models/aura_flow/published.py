"""Published AuraFlow checkpoints."""

from __future__ import annotations

from limner.models.published import Part, Published, autoencoder

PILE_T5_XL = Part(
    "UMT5EncoderModel",
    1_223_550_976,
    {
        "d_model": 2048,
        "d_ff": 5120,
        "num_layers": 24,
        "num_heads": 32,
        "d_kv": 64,
        "vocab_size": 32128,
        "feed_forward_proj": "gated-gelu",
    },
)
PUBLISHED = {
    "aura_flow": Published(
        hub="fal/AuraFlow-v0.3",
        licence="Apache-2.0",
        prediction="velocity",
        network=Part("AuraFlowTransformer2DModel", 6_858_605_568, {"sample_size": 128, "pos_embed_max_size": 9216}),
        autoencoder=autoencoder(4, quant=True),
        encoders=(PILE_T5_XL,),
        latent=(4, 128, 128),
    ),
}
