"""Published LTX-Video checkpoints: the first, of the configurations that diffusers has by default."""

from __future__ import annotations

from limner.models.published import T5_XXL, Part, Published

PUBLISHED = {
    "ltx_video": Published(
        hub="Lightricks/LTX-Video",
        licence="its own, which differs by version",
        prediction="velocity",
        network=Part("LTXVideoTransformer3DModel", 1_923_385_472),
        autoencoder=Part("AutoencoderKLLTXVideo", 419_193_649),
        encoders=(T5_XXL,),
        latent=(128, 21, 16, 22),
        cell=32,
    ),
}
