"""matplotlib, asked for before anything long is run."""

from __future__ import annotations

from typing import Any

from limner.core.errors import UserError


def pyplot() -> Any:
    """Return matplotlib's pyplot without a display. Raises UserError, which names the extra, where it is missing."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise UserError(
            "limner bench draws with matplotlib, which is not installed: pip install limner[bench]"
        ) from None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt
