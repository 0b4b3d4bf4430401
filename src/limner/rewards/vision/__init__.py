"""Rewards that are vision models of transformers, loaded when first asked from a local folder or a hub id."""
