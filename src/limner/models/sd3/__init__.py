"""Stable Diffusion 3 and 3.5: settings, adapter, and a builder of small pipelines of the same type."""
