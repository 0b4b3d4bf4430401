"""Published motion adapters, each as a pipeline with the base that it is for."""

from __future__ import annotations

from limner.models.published import CLIP_L, Part, Published, autoencoder

PUBLISHED = {
    "animatediff": Published(
        hub="guoyww/animatediff-motion-adapter-v1-5-2",
        licence="that of its base",
        prediction="noise",
        network=Part("UNetMotionModel", 1_312_730_244, {"sample_size": 64, "cross_attention_dim": 768}),
        autoencoder=autoencoder(4, quant=True),
        encoders=(CLIP_L,),
        latent=(4, 16, 64, 64),
    ),
}
