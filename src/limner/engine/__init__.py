"""How networks are run and trained: devices, precision, trainable weights, the optimizer step, checkpoints."""
