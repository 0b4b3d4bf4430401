"""Published Qwen-Image checkpoints."""

from __future__ import annotations

from dataclasses import replace

from limner.models.published import QWEN_VL_7B, Part, Published

QWEN_IMAGE = Published(
    hub="Qwen/Qwen-Image",
    licence="Apache-2.0",
    prediction="velocity",
    network=Part("QwenImageTransformer2DModel", 20_430_401_088),
    autoencoder=Part("AutoencoderKLQwenImage", 126_892_531),
    encoders=(QWEN_VL_7B,),
    latent=(16, 128, 128),
)
NOISELESS = replace(QWEN_IMAGE.network, config={"zero_cond_t": True})
"""The network that is told that what is given has no noise."""
PUBLISHED = {"qwen_image": replace(QWEN_IMAGE, recipe="qwen_image")}
PUBLISHED_EDIT = {"qwen_image_edit": replace(QWEN_IMAGE, hub="Qwen/Qwen-Image-Edit")}
PUBLISHED_EDIT_PLUS = {
    "qwen_image_edit_2509": replace(QWEN_IMAGE, hub="Qwen/Qwen-Image-Edit-2509"),
    "qwen_image_edit_2511": replace(QWEN_IMAGE, hub="Qwen/Qwen-Image-Edit-2511", network=NOISELESS),
}
