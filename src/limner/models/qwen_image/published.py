"""Published Qwen-Image checkpoints."""

from __future__ import annotations

from limner.models.published import QWEN_VL_7B, Part, Published

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
