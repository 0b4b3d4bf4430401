"""Every test runs offline, on the same examples each time, with the shapes in types checked at every call."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import jaxtyping  # noqa: E402
from hypothesis import settings  # noqa: E402

import shapes  # noqa: E402

settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")
jaxtyping.jaxtyped = shapes.checked  # what the hook writes above every function
jaxtyping.install_import_hook(
    [f"limner.{room}" for room in ("diffusion", "objectives", "core", "learning", "policies", "algorithms")], None
)
