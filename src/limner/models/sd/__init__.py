"""Stable Diffusion 1.5, 2.1 and XL: settings, adapter, and a builder of small pipelines of the same type."""
