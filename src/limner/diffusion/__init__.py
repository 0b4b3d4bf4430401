"""Floor 0: the pure mathematics of noising, x_t = alpha(t) x0 + sigma(t) noise. Imports torch and jaxtyping only."""
