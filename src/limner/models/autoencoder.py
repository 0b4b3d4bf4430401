"""A small autoencoder from nothing, for base models that are trained here."""

from __future__ import annotations

from diffusers import AutoencoderKL


def small_autoencoder(channels: tuple[int, int, int, int], latent_channels: int, latent_size: int) -> AutoencoderKL:
    """Return a randomly initialised autoencoder: latents of `latent_size` for pictures eight times as wide.

    It is narrow at full resolution, where a decoder spends its time, and leaves out the convolutions around the latent.
    """
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=min(8, channels[0]),
        sample_size=8 * latent_size,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
        scaling_factor=1.0,
        shift_factor=0.0,
    )
