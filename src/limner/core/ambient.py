"""What is kept for the whole process: code of others may change it, on import or when called, and is not to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.backends import cudnn


@contextmanager
def torch_as_it_was(seeds: bool = True) -> Iterator[None]:
    """Put back, on the way out, default dtype and device, gradients, threads, precision, determinism, working folder.

    With `seeds` torch's random numbers too: whoever is called again and again is to draw others each time.
    """
    dtype, device, gradients = torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    strict, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    anomalies, chosen = torch.is_anomaly_enabled(), (cudnn.enabled, cudnn.benchmark, cudnn.deterministic)
    seeded = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    folder = _folder()
    try:
        with torch.random.fork_rng(devices=seeded, enabled=seeds):
            yield
    finally:
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            torch.set_default_device(None if device.type == "cpu" else device)
        torch.set_grad_enabled(gradients)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
        torch.use_deterministic_algorithms(strict, warn_only=warns)
        torch.autograd.set_detect_anomaly(anomalies)
        cudnn.enabled, cudnn.benchmark, cudnn.deterministic = chosen
        if folder and _folder() != folder and os.path.isdir(folder):
            os.chdir(folder)


def _folder() -> str:
    """Return the working folder, "" where it was removed."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""
