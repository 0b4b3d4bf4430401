"""Floor 0: the pure mathematics of learning from rewards. Imports torch and jaxtyping only."""
