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


def tiny_autoencoder(latent_channels: int, scaling_factor: float, shift_factor: float) -> AutoencoderKL:
    """Return a random miniature of the autoencoder of SD3 and FLUX: latents for pictures eight times as wide."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 8, 8),
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=4,
        sample_size=32,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=scaling_factor,
        shift_factor=shift_factor,
    )
