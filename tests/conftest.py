"""Every test runs offline, and with the shapes that floor 0 and randomness state in their types checked as they run."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook  # noqa: E402

install_import_hook(
    [f"limner.{room}" for room in ("diffusion", "objectives", "core", "learning", "policies", "algorithms")],
    "shapes.checked",
)
