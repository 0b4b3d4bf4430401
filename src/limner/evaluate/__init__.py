"""How a result is measured: every prompt at every seed, before and after, with intervals."""
