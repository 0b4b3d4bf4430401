"""Adapters: networks as the seams see them, one folder per architecture family."""

from limner.core.quiet import quiet_imports

quiet_imports()
