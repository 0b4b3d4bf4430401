"""Published Qwen-Image checkpoints."""

from __future__ import annotations

from limner.models.published import Part, Published

QWEN_VL_7B = Part(
    "Qwen2_5_VLForConditionalGeneration",
    8_292_166_656,
    {
        "text_config": {
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "vocab_size": 152064,
            "tie_word_embeddings": False,
        },
        "vision_config": {
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "out_hidden_size": 3584,
        },
    },
)
PUBLISHED = {
    "qwen_image": Published(
        hub="Qwen/Qwen-Image",
        licence="Apache-2.0",
        prediction="velocity",
        network=Part("QwenImageTransformer2DModel", 20_430_401_088),
        autoencoder=Part("AutoencoderKLQwenImage", 126_892_531),
        encoders=(QWEN_VL_7B,),
        latent=(16, 128, 128),
        recipe="qwen_image",
    ),
}
