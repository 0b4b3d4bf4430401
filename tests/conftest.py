"""Every test runs offline, and with the shapes that floor 0 and randomness state in their types checked as they run."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook  # noqa: E402

# Not diffusion.gaussian, whose recorded decisions have a second axis, the steps.
FLOOR_0 = ["dynamics", "prediction", "schedule", "shape", "timesteps"]
SHAPES_CHECKED = [*(f"limner.diffusion.{name}" for name in FLOOR_0), "limner.objectives", "limner.core.rng"]
install_import_hook([*SHAPES_CHECKED, "limner.learning.passes"], "beartype.beartype")
