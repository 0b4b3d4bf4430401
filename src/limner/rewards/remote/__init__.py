"""A judge at a URL: what `limner serve-reward` hosts, as a reward."""

from __future__ import annotations

from limner.rewards.remote.reward import Remote

__all__ = ["Remote"]
