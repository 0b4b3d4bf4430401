"""How much memory each phase of a run takes, by what it is for: arithmetic on sizes, nothing else.

Resident in all phases are the networks with their copies, what learns beside them and its average, and the decoder;
from the first optimizer step on what Adam keeps of each trained element (`engine/optim.py`). Then

    encode    + text encoders + one prompt being encoded
    rollout   + path of an iteration + a pass of sampling, and its own path, if it does not draw all samples at once
    decode    + path + as many samples as are decoded at once
    update    + path + gradients + a forward and backward pass of a micro-batch, or Adam's own temporary copy

On an accelerator text encoders leave it when they have encoded (`engine/encoders.py`), what sees a prompt's pictures
stays ("sight"), and pictures are on the host; with
`model.vae cpu` so is the decoder, and with
`sampler.keep host` decisions are too, and the path is the last latents alone; with `model.offload blocks` the frozen
blocks, each of which a pass brings while it runs. In one
memory, of a CPU, all of them stay, beside what is imported. Of weights that are spread a process has a part, and in
rollout and update what a pass brings together (`machine/cut.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from limner.machine.cost import Sizes
from limner.machine.cut import Cut, cut
from limner.models.parts import DECODE_PIXELS, DECODE_PIXELS_CPU
from limner.training.workload import Workload

FLOAT32 = 4


@dataclass(frozen=True)
class Phase:
    """What is in memory at the peak of a part of an iteration, in bytes by what it is for."""

    name: str
    bytes: Mapping[str, float]

    @property
    def peak(self) -> float:
        """All of it."""
        return sum(self.bytes.values())


@dataclass(frozen=True)
class Place:
    """Where a run computes: an accelerator with a memory of its own, or a CPU, in whose memory all else is as well."""

    accelerator: bool
    imported: float = 0.0
    """Bytes of a process with its libraries (`machine/libraries.py`); 0 on an accelerator."""

    def decoded_at_once(self, sizes: Sizes, work: Workload) -> int:
        """Return how many samples an autoencoder takes at a time (`models.parts.at_once`, `model.decode_batch`)."""
        pixels = sizes.picture // sizes.shape[1]
        of_pixels = max(1, (DECODE_PIXELS if self.accelerator else DECODE_PIXELS_CPU) // pixels)
        return min(work.micro_batch, of_pixels, work.decode_batch or of_pixels)


def share(sizes: Sizes, parts: int) -> Cut:
    """Return what of the weights a process holds: all of them, or its part of each tensor."""
    if parts == 1:
        return Cut(sizes.networks, sizes.lora, sizes.trained)
    whole = cut(sizes.held, 1, 0)
    return cut(sizes.held, parts, sizes.networks - whole.networks)


def path_bytes(sizes: Sizes, work: Workload, samples: int) -> float:
    """Return what is kept of so many samples: the last latent, and of n decisions n + 1 points and n means."""
    latents = 1 + (2 * work.recorded + 1 if work.recorded else 0)
    return samples * latents * float(sizes.latent_bytes)


def phases(sizes: Sizes, work: Workload, place: Place) -> tuple[Phase, ...]:
    """Return the phases of an iteration after the first, in their order."""
    own = share(sizes, work.parts)
    networks = own.networks - (sizes.waiting if place.accelerator else 0)
    away = place.accelerator and not work.decoded_there
    resident: dict[str, float] = {
        "networks": networks, "LoRA": own.lora, "optimizer": work.moment_bytes * own.trained,
        "average": FLOAT32 * own.trained if work.averaged else 0, "decoder": 0 if away else sizes.decoder,
    }  # fmt: skip
    if sizes.sight:
        resident["sight"] = sizes.sight
    if not place.accelerator:
        resident |= {"encoders": sizes.encoders, "libraries": place.imported}
    there = work if work.on_device or not place.accelerator else replace(work, recorded=0)
    path = path_bytes(sizes, there, work.share)
    conditions = float(work.groups // work.processes + 1) * sizes.condition
    kept = {"path": path, "conditions": conditions}
    pictures = {} if place.accelerator else {"pictures": 2.0 * work.share * sizes.picture}
    decoding = 0.0 if away else sizes.decoding.bytes(place.decoded_at_once(sizes, work))
    passed = min(work.micro_batch, work.share)
    drawing = sizes.sampling.bytes(passed) + (path_bytes(sizes, there, passed) if passed < work.share else 0)
    learnt = min(work.micro_batch, work.share * work.taught)
    gradients = FLOAT32 * float(own.trained)
    learning = max(sizes.learning.bytes(learnt) - FLOAT32 * float(sizes.trained), gradients)
    encoding = {"encoders": sizes.encoders, "activations": sizes.encoding.bytes(1)}
    if place.accelerator and not work.encoded_there:
        encoding = {}
    drawn, taught = ({"gathered": each} if work.parts > 1 else {} for each in (own.forward, own.backward))
    return (
        Phase("encode", resident | encoding),
        Phase("rollout", resident | kept | drawn | {"activations": drawing}),
        Phase("decode", resident | kept | pictures | {"activations": decoding}),
        Phase("update", resident | kept | pictures | taught | {"gradients": gradients, "activations": learning}),
    )


def peak(found: tuple[Phase, ...]) -> Phase:
    """Return the phase that takes most."""
    return max(found, key=lambda phase: phase.peak)
