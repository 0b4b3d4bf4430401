"""Stable Diffusion 3 and 3.5: adapter and a builder of small pipelines of the same type."""

from limner.models.sd3.adapter import SD3

__all__ = ["SD3"]
