"""`limner doctor`: what is here, what is missing for a training, and what to do about it, in ten seconds at most.

Nothing is downloaded, written or changed. What each of these would break is found before it does.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from packaging.requirements import Requirement

from limner.engine.memory import available_memory_mib
from limner.machine.pair import NO_ANSWER, round_trip
from limner.serve.worker import Worker

FREE_DISK, FREE_MEMORY = 20, 4
"""GiB below which a training of a real model is likely to end early."""
PORT = 8000
"""What `annotate` and `serve-reward` listen on unless told otherwise."""
SIDE, SIDE_OF_CPU, REPEATS = 1024, 512, 3
"""Of matrices on a card and on a CPU, some of which multiply float16 at less than a GFLOP/s."""
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 2e-2, torch.float16: 2e-3}
"""Of a product of matrices, relative to float64: float32 may be TF32 on a GPU."""
SECONDS, MARGIN = 10.0, 1.0
"""In which all is looked at, and what of it is left to end two processes that do not answer."""
DRIVER = Path("/proc/driver/nvidia/version")
Level = Literal["ok", "note", "fails"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what was found, and what to do where that is not good."""

    name: str
    said: str
    level: Level = "ok"
    remedy: str = ""

    def __str__(self) -> str:
        mark = {"ok": "  ok ", "note": "note ", "fails": "FAILS"}[self.level]
        return f"{mark}  {self.name:<11}  {self.said}" + f"\n       {'':<11}  -> {self.remedy}" * bool(self.remedy)


def examine(seconds: float = SECONDS) -> Iterator[Finding]:
    """Yield what is found, the quick things first, in so many seconds: what has not answered then is said to be so."""
    end = time.monotonic() + seconds
    pair = _begun(lambda: processes(seconds - MARGIN))  # it starts two processes, and waits for them
    for look in (software, versions, extras, driver, devices, cores, memory, disk, port, products):
        yield from _answer(_begun(look), look.__name__, end, seconds)
    yield from _answer(pair, "processes", end, seconds)


def _begun(look: Callable[[], Iterable[Finding]]) -> Future[list[Finding]]:
    """Return what will be found, by a thread of its own."""
    return Worker().do(lambda: list(look()))


def _answer(found: Future[list[Finding]], name: str, end: float, seconds: float) -> list[Finding]:
    """Return what was found by `end`; a look that hangs, as at a broken driver, keeps nobody waiting."""
    try:
        return found.result(max(0.0, end - time.monotonic()))
    except TimeoutError:
        remedy = "look again when the machine is idle; if it is, see what hangs: nvidia-smi, a disk, a network"
        return [Finding(name, f"not known: no answer in {seconds:g} s", "note", remedy)]


def software() -> Iterator[Finding]:
    """Python, limner and torch."""
    own = importlib.metadata.version("limner")
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else f"ROCm {torch.version.hip}"
    build = build if torch.version.cuda or torch.version.hip else "a build without GPUs"
    yield Finding("limner", f"{own}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    yield Finding("torch", f"{torch.__version__}, {build}")


def versions() -> Iterator[Finding]:
    """The packages that limner needs."""
    wanted = [each for each in _requirements() if each.marker is None]
    bad = [f"{each.name} {_version(each.name) or 'missing'}" for each in wanted if not _holds(each)]
    if bad:
        yield Finding("packages", ", ".join(bad), "fails", "pip install -U limner")
    else:
        told = ", ".join(f"{name} {_version(name)}" for name in ("diffusers", "transformers", "peft"))
        yield Finding("packages", f"{told}, and {len(wanted) - 3} others")


def extras() -> Iterator[Finding]:
    """Packages of extras: what is missing, and what it is for."""
    for extra in sorted(set(importlib.metadata.metadata("limner").get_all("Provides-Extra") or ()) - {"dev"}):
        needs = [each for each in _requirements() if each.marker and each.marker.evaluate({"extra": extra})]
        missing = [each.name for each in needs if not _holds(each)]
        if missing:
            yield Finding(extra, f"without {', '.join(missing)}", "note", f'pip install "limner[{extra}]"')
        else:
            yield Finding(extra, ", ".join(each.name for each in needs))


def _requirements() -> list[Requirement]:
    return [Requirement(line) for line in importlib.metadata.requires("limner") or ()]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _holds(wanted: Requirement) -> bool:
    found = _version(wanted.name)
    return bool(found) and wanted.specifier.contains(found, prereleases=True)


def driver() -> Iterator[Finding]:
    """The version of NVIDIA's driver, where there is one: as its kernel module says, or its own tool."""
    said = DRIVER.read_text() if DRIVER.is_file() else ""
    if not (found := re.search(r"Kernel Module\D*?(?:x86_64|aarch64)?\s+(\d+(?:\.\d+)+)", said)):
        tool = shutil.which("nvidia-smi")
        asked = [tool or "", "--query-gpu=driver_version", "--format=csv,noheader"]
        said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout if tool else ""
        found = re.match(r"(\d+(?:\.\d+)+)", said)
    if found:
        yield Finding("driver", f"NVIDIA {found[1]}")


def devices() -> Iterator[Finding]:
    """GPUs, and whether this torch can use them."""
    for index in range(torch.cuda.device_count()):
        free, total = (value / 2**30 for value in torch.cuda.mem_get_info(index))
        name, major = torch.cuda.get_device_name(index), torch.cuda.get_device_capability(index)[0]
        said = f"{name}, {free:.0f} of {total:.0f} GiB free, compute capability {major}.x"
        if free < total / 2:
            yield Finding(f"cuda:{index}", said, "note", "another process holds its memory: see nvidia-smi")
        elif major < 8:
            yield Finding(f"cuda:{index}", said, "note", "no bfloat16 in hardware: --precision.dtype float16")
        else:
            yield Finding(f"cuda:{index}", said)
    if torch.cuda.device_count() == 0:
        if torch.backends.mps.is_available():
            yield Finding("device", "mps")
        elif shutil.which("nvidia-smi") or Path("/proc/driver/nvidia").exists():
            remedy = "install torch for your driver's CUDA: https://pytorch.org/get-started/locally"
            yield Finding("device", "an NVIDIA driver is here, but torch sees no GPU", "fails", remedy)
        else:
            remedy = "recipes of the bundled worlds run on it; a checkpoint of people's own wants a GPU"
            yield Finding("device", "no GPU: cpu", "note", remedy)


def cores() -> Iterator[Finding]:
    """Cores, the threads that torch takes, and what else is computing."""
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    threads, load = torch.get_num_threads(), os.getloadavg()[0]
    said = f"{usable} usable, {threads} threads, load {load:.1f}"
    if threads > usable:
        yield Finding("cores", said, "note", f"more threads than cores slow each other: OMP_NUM_THREADS={usable}")
    elif load > 2 * usable:
        yield Finding("cores", said, "note", "others compute here: what is timed now will look too slow")
    else:
        yield Finding("cores", said)


def memory() -> Iterator[Finding]:
    """Memory that a process may still take."""
    free = available_memory_mib() / 2**10
    level: Level = "note" if free < FREE_MEMORY else "ok"
    remedy = "lower --micro-batch, and --group-size; `limner plan RECIPE` says what fits" if free < FREE_MEMORY else ""
    yield Finding("memory", f"{free:.1f} GiB free", level, remedy)


def disk() -> Iterator[Finding]:
    """Room for runs, and for what the hub's cache holds."""
    cache = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    for name, place in (("runs", Path.cwd()), ("hub cache", cache)):
        there = next(each for each in (place, *place.parents) if each.exists())
        free = shutil.disk_usage(there).free / 2**30
        said = f"{free:.0f} GiB free in {place}"
        if not os.access(there, os.W_OK):
            yield Finding(name, f"{place} cannot be written", "fails", "take another folder: --out DIR, or HF_HOME")
        elif free < FREE_DISK:
            yield Finding(name, said, "note", "a checkpoint of SDXL takes 7 GiB, of FLUX.1 34: make room, or move it")
        else:
            yield Finding(name, said)


def port() -> Iterator[Finding]:
    """The port that commands listen on."""
    with socket.socket() as tried:
        if tried.connect_ex(("127.0.0.1", PORT)):
            yield Finding("port", f"{PORT} is free")
        else:
            yield Finding("port", f"{PORT} is taken", "note", "give annotate and serve-reward another --port, or 0")


def products() -> Iterator[Finding]:
    """A product of matrices in each precision, on each device: that it is right, and how fast."""
    names = [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["cpu"]
    for name in names:
        for dtype, bound in TOLERANCE.items():
            yield product(torch.device(name), dtype, bound, SIDE_OF_CPU if name == "cpu" else SIDE)


def product(device: torch.device, dtype: torch.dtype, bound: float, side: int) -> Finding:
    """Return what a product of two random matrices says of a device and a precision."""
    told = f"{str(dtype).removeprefix('torch.')} on {device}"
    generator = torch.Generator().manual_seed(0)
    exact = [torch.randn(side, side, generator=generator).to(dtype) for _ in range(2)]
    a, b = (each.to(device) for each in exact)
    try:
        found, seconds = a @ b, _seconds(lambda: a @ b, device)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        return Finding("product", f"{told}: {reason}", "fails", "take another --precision.dtype, or --device")
    expected = exact[0].double() @ exact[1].double()
    wrong = float((found.cpu().double() - expected).norm() / expected.norm())
    said = f"{told}: {2 * side**3 / seconds / 1e9:,.0f} GFLOP/s, off by {wrong:.0e}"
    if not wrong < bound:
        return Finding("product", said, "fails", "the device computes wrongly: update its driver, or replace it")
    return Finding("product", said)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return the least seconds that it took of a few times."""
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - start)
    return min(taken)


def processes(seconds: float = SECONDS) -> list[Finding]:
    """Whether two processes can work together here; not known where they have not even met in time."""
    wrong = round_trip(seconds)
    if not wrong:
        return [Finding("processes", "two added up a number over gloo")]
    remedy = "name the network interface: GLOO_SOCKET_IFNAME=lo (alone), or that of the machines' network"
    if wrong.startswith(NO_ANSWER):
        return [Finding("processes", f"not known: two gave {wrong}", "note", f"where the machine is idle, {remedy}")]
    return [Finding("processes", f"two could not talk over gloo: {wrong}", "fails", remedy)]
