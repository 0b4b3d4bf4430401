"""Wan, text to video: settings, adapter, and a builder of small pipelines of the same type."""
