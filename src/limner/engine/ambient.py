"""What torch keeps for the whole process: code of others may change it on import, and is not to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.backends import cudnn


@contextmanager
def torch_as_it_was() -> Iterator[None]:
    """Put back, on the way out, default dtype and device, gradients, seeds, threads, precision and determinism."""
    dtype, device, gradients = torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    strict, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    anomalies, chosen = torch.is_anomaly_enabled(), (cudnn.enabled, cudnn.benchmark, cudnn.deterministic)
    seeded = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(devices=seeded):
            yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_default_device(None if device.type == "cpu" else device)
        torch.set_grad_enabled(gradients)
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
        torch.use_deterministic_algorithms(strict, warn_only=warns)
        torch.autograd.set_detect_anomaly(anomalies)
        cudnn.enabled, cudnn.benchmark, cudnn.deterministic = chosen
