"""How long operations take, and what that costs: a rate that is assumed, and said with every figure.

A card's published dense peak, times the share of it that training is assumed to reach. What moves between memories and
processes, and judges, is not counted: a time is a lower bound for a card that reaches the share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SHARE = 0.4
"""Of a card's peak: assumed; a third to a half is reported of well-tuned training of transformers."""
HOUR = 3600


@dataclass(frozen=True)
class Card:
    """A card of a class, and its published dense peaks in TFLOP/s, sums in float32: of float32, and of half precision.

    float32 is computed as such: torch multiplies no matrices of it in TF32 unless it is told to.
    """

    name: str
    float32: float
    half: float


CARDS: Mapping[int, Card] = {
    12: Card("RTX 4070", 29.1, 58.3),
    16: Card("RTX 4080", 48.7, 97.5),
    24: Card("RTX 4090", 82.6, 165.2),
    48: Card("L40S", 91.6, 362.1),
    80: Card("A100 80 GB", 19.5, 312.0),
}
"""A card of each class of memory. Source: NVIDIA's Ada and Ampere whitepapers, and the L40S datasheet."""


@dataclass(frozen=True)
class Rate:
    """Operations a second of a device: of networks in their precision, and of autoencoders, which are float32."""

    networks: float
    decoder: float
    said: str
    """Where it is from."""
    given: bool = False


def rate(card: int | None, dtype: str, tflops: float | None = None) -> Rate:
    """Return the rate that is given, in TFLOP/s, for all; else that of the card of a class (None: the largest).

    Two bytes a number run at the peak of half precision.
    """
    if tflops is not None:
        return Rate(tflops * 1e12, tflops * 1e12, f"{tflops:g} TFLOP/s, as given", given=True)
    known = CARDS[card or max(CARDS)]
    peak = known.float32 if dtype == "float32" else known.half
    found = [SHARE * each * 1e12 for each in (peak, known.float32)]
    said = f"{SHARE:.0%} of the peak of a {known.name}, {peak:g} TFLOP/s in {dtype}, to decode {known.float32:g}"
    return Rate(found[0], found[1], f"{said}: assumed")


@dataclass(frozen=True)
class Seconds:
    """Of a device: an iteration by phase, all that is drawn to evaluate and to be shown, and the whole run."""

    rollout: float
    decode: float
    update: float
    evaluation: float
    snapshots: float
    iterations: int
    devices: int

    @property
    def iteration(self) -> float:
        """An iteration."""
        return self.rollout + self.decode + self.update

    @property
    def run(self) -> float:
        """All iterations, the evaluations, and the snapshots."""
        return self.iterations * self.iteration + self.evaluation + self.snapshots

    def cost(self, price: float) -> float:
        """Return what the run costs, of `price` for an hour of a device."""
        return self.devices * self.run / HOUR * price
