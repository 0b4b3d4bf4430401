"""Stable Diffusion 1.5, 2.1 and XL: adapter and a builder of small pipelines of each kind."""

from limner.models.sd.adapter import SD

__all__ = ["SD"]
