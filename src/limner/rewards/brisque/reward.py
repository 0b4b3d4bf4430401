"""Minus BRISQUE as a reward, by our own evaluator of a published support vector machine."""

from __future__ import annotations

import functools
import importlib.metadata
import pickletools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from limner.core.errors import UserError
from limner.core.media import Media
from limner.core.paths import path_of
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.rewards.brisque.features import Array, features, grey


@dataclass(frozen=True)
class Regressor:
    """f(x) = sum_i weight_i exp(-gamma |z - vector_i|^2) - rho, with z = 2 (x - low) / (high - low) - 1."""

    weights: Array
    vectors: Array
    gamma: float
    rho: float
    low: Array
    high: Array

    def __call__(self, x: Array) -> float:
        z = 2 * (x - self.low) / (self.high - self.low) - 1
        return float(self.weights @ np.exp(-self.gamma * ((z - self.vectors) ** 2).sum(1)) - self.rho)


@dataclass(frozen=True)
class Brisque:
    """Score minus BRISQUE, the mean over frames: about 0 for a natural photograph, about -100 for a ruined one.

    `model` is a libsvm epsilon-SVR in its text form and `ranges` the file that svm-scale wrote for it. Without them
    those inside the installed package `brisque` are read (nothing of it is run). A picture of one grey, or without
    products of both signs, cannot be judged. Source: Mittal, Moorthy, Bovik, IEEE TIP 21 (2012) 4695.
    Raises UserError for a model without ranges, files that cannot be read, and a package that is not installed.
    """

    model: str = ""
    ranges: str = ""

    def __post_init__(self) -> None:
        if bool(self.model) != bool(self.ranges):
            raise UserError("brisque: give both model (libsvm's text file) and ranges (svm-scale's file), or neither")

    @property
    def spec(self) -> RewardSpec:
        return RewardSpec(
            "brisque",
            "minus BRISQUE: how natural the picture's local statistics are; about 0 is a photograph, -100 ruined",
            unit="minus difference mean opinion score",
            source="Mittal, Moorthy, Bovik, IEEE TIP 21 (2012) 4695",
            weights_licence="not shipped; the package brisque is Apache-2.0",
        )

    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        regressor = _regressor(self.model, self.ranges)
        frames = (media.frames().detach().clamp(0, 1) * 255).round().double().cpu().numpy()
        scores = [[-regressor(features(grey(frame))) for frame in sample] for sample in frames]
        score = torch.tensor(scores, dtype=torch.float32).reshape(frames.shape[:2]).mean(1)
        return RewardOutput(score, score.isfinite())


@functools.cache
def _regressor(model: str, ranges: str) -> Regressor:
    if model:
        weights, vectors, gamma, rho = read_svm(path_of(model, "brisque"))
        return Regressor(weights, vectors, gamma, rho, *read_ranges(path_of(ranges, "brisque")))
    try:
        package = importlib.metadata.distribution("brisque")
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(
            "brisque: no weights: give model and ranges, or install limner[brisque], whose package holds them"
        ) from error
    folder = Path(str(package.locate_file("brisque/models")))
    weights, vectors, gamma, rho = read_svm(folder / "svm.txt")
    # Two lists of 36 numbers, least before greatest; taken from the opcodes, so that nothing is unpickled.
    opcodes = pickletools.genops((folder / "normalize.pickle").read_bytes())
    low, high = np.array([value for code, value, _ in opcodes if code.name == "BINFLOAT"]).reshape(2, 36)
    return Regressor(weights, vectors, gamma, rho, low, high)


def read_svm(path: Path) -> tuple[Array, Array, float, float]:
    """Return weights, support vectors, gamma and rho of a libsvm text file. Raises UserError if it is another kind."""
    head, _, body = _text(path).partition("\nSV\n")
    settings = dict(line.split(" ", 1) for line in head.splitlines() if " " in line)
    if (settings.get("svm_type"), settings.get("kernel_type")) != ("epsilon_svr", "rbf") or not body.strip():
        raise UserError(f"brisque: {path} is no epsilon-SVR with an RBF kernel as libsvm writes it")
    rows = [line.split() for line in body.splitlines()]
    vectors = np.zeros((len(rows), 36))
    for vector, (_, *pairs) in zip(vectors, rows, strict=True):
        for index, value in (pair.split(":") for pair in pairs):  # an index that is left out is zero
            vector[int(index) - 1] = float(value)
    weights = np.array([float(weight) for weight, *_ in rows])
    return weights, vectors, float(settings["gamma"]), float(settings["rho"])


def read_ranges(path: Path) -> tuple[Array, Array]:
    """Return the least and greatest value of each feature from a file of svm-scale that scales to [-1, 1]."""
    kind, target, *rows = _text(path).splitlines() or [""] * 2
    if kind.strip() != "x" or [float(n) for n in target.split()] != [-1, 1] or len(rows) != 36:
        raise UserError(f"brisque: {path} is no file of svm-scale for 36 features and [-1, 1]")
    table = np.array([[float(number) for number in row.split()] for row in rows])
    return table[:, 1], table[:, 2]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"brisque: cannot read {path}: {error}") from error
