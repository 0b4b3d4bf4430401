"""What the adapter honours of a model of tokens: fields of the decoder's and the tokenizer's configurations."""

from __future__ import annotations

from limner.core.errors import UserError
from limner.models.honoured import Honoured, require_equal
from limner.models.tokens.build import TokenParts

VQVAE = Honoured(
    classes=("VQModel",),
    free=frozenset(
        "act_fn block_out_channels down_block_types latent_channels layers_per_block mid_block_add_attention "
        "norm_num_groups norm_type num_vq_embeddings sample_size up_block_types vq_embed_dim".split()
    ),
    only={"in_channels": (3,), "out_channels": (3,)},
    idle=frozenset({"force_upcast", "lookup_from_codebook", "scaling_factor"}),  # codes become latents here, unscaled
)


def require_honoured(parts: TokenParts) -> None:
    """Raise UserError for parts that do not fit each other, or of which something is not honoured."""
    tokenizer, decoder, vqvae = parts
    VQVAE.require("vqvae", vqvae)
    rows = decoder.config.vocab_size
    require_equal("decoder has vocab_size", rows, "the tokenizer has so many words and codes:", len(tokenizer))
    if rows <= vqvae.config.num_vq_embeddings:
        raise UserError(
            f"model: decoder has vocab_size {rows}, which leaves no words beside the vqvae's "
            f"{vqvae.config.num_vq_embeddings} codes: the parts do not belong together"
        )
