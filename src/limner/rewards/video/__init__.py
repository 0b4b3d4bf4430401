"""Rewards that read a clip's time, without weights. Each measures one thing; combine them: none is safe alone."""
