"""Make a GAN of a world's base: a network draws at once what that took many steps for, and plays for the rest.

Stages, each resumable: (1) the latents of a fixed data set of noisy (caption, picture) pairs; (2) for the caption of
each a z, and y, where the base's guided ODE leads from it; (3) the generator, which begins as the base's network asked
once, learns these pairs, while a discriminator learns to read; (4) the two play. With h what D sees in latents, and e
what it reads of a caption,

    (3) D   contrast(h(x), e(c))
        G   |G(z, c) - y|^2 / dim(y)
    (4) D   E (1 - D(x, c))+ + (1 - m) E (1 + D(G(z, c), c))+ + m E (1 + D(x, c'))+
            + w contrast(h(x), e(c)) + r1/2 E |grad_x D(x, c)|^2
        G   |G(z, c) - y|^2 / dim(y) + play (- E D(G(z, c), c) + w contrast(h(G(z, c)), e(c)))

in which `contrast` is to find a picture's caption among those of its batch, and beside one of its own that was altered:
that teaches what captions say. c' is a caption of another picture, or the picture's own altered, half of a batch each:
without it D may call real whatever looks so, and G learns no more than to look so. D learns to read alone at first: it
does so faster where it need not tell samples from data, and a generator has little to learn from one that cannot read.
Whatever D is shown has noise on it, data and samples alike, which keeps the two from being told apart at a glance.

Source: pairs of a sampler's noise and its end, Luhman and Luhman, arXiv:2101.02388, eq. 7; a student that is held to
its teacher and plays against a discriminator, Sauer et al., arXiv:2311.17042, eq. 1, there with samples noised anew for
the teacher; `limner.objectives.adversarial`; data with captions that are not theirs beside samples, m = 1/2, Reed et
al., arXiv:1605.05396, algorithm 1; contrast in both losses, Zhang et al., arXiv:2101.04702, section 3.2; noise on what
D is shown, Sønderby et al., arXiv:1610.04490, section 3.4.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from limner.core.errors import UserError
from limner.core.protocols import Denoiser
from limner.core.rng import Rng
from limner.core.settings import Count, Natural, NotNegative, Range, Share, settings
from limner.core.team import ALONE
from limner.core.types import Prompt
from limner.diffusion.dynamics import DPMSolver
from limner.objectives.adversarial import contrast, hinge, steepness
from limner.policies.denoising import Denoising, Guidance, Sampler
from limner.policies.one_step import OneStepModel
from limner.training.distill import chain
from limner.training.fit import Fit, Log, begin, save
from limner.training.pretrain import PairSource, Portion, Rate, draw, finish

HOW = ("checkpoint_seconds",)
"""Settings that do not change what comes out, and may change when a folder goes on."""
LATENTS, PAIRS, PLAYERS = "latents.pt", "pairs.pt", "gan.pt"
AT_ONCE = 250
"""Pictures, and pairs, that are made at a time, and kept."""


class FreshGAN(Protocol):
    """A generator and a discriminator that did not play yet, as far as pretraining is concerned."""

    @property
    def teacher(self) -> Denoiser:
        """The base, as it is."""
        ...

    @property
    def model(self) -> OneStepModel:
        """The generator, whose z has the shape of the base's latents; its `networks` learn."""
        ...

    @property
    def discriminator(self) -> Any:
        """`see` of latents, `read` of a condition's "context", and `log_scale` of their cosines."""
        ...

    def latents(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch *latent"]:
        """Return the latents of pictures in [0, 1]."""
        ...

    def save(self, folder: Path) -> None:
        """Write all parts, at half precision."""
        ...


@settings
class Duel:
    """How a GAN is made. `noisy_share` of the captions lack a clause or state a wrong one."""

    model: Literal["gan"] = "gan"
    seed: Natural = 0
    start: str = ""
    """The base that it is made of; empty: the one that is named as the world is."""
    noisy_share: Portion = 0.25
    num_pairs: Annotated[int, Range(least=1, most=10**7)] = 6000
    """Pictures, and pairs that the base is asked for."""
    guidance: Guidance = 4.0
    """The base's, when it is asked; the generator needs none."""
    teacher_steps: Count = 12
    """Of the base, by DPM-Solver."""
    width: Annotated[int, Range(least=8, most=4096)] = 128
    """Of the discriminator."""
    steps: Count = 1000
    batch: Annotated[int, Range(least=2, most=10_000)] = 96
    lr: Rate = 1e-3
    """Of the generator."""
    discriminator_lr: Rate = 2e-3
    warmup: Count = 50
    reading_steps: Natural = 750
    """The first of these steps, in which D learns to read, and G from the pairs alone."""
    play: NotNegative = 0.005
    """Weight of what D says in the loss of G, beside the mean squared error of its latents."""
    contrast: NotNegative = 3.0
    """Weight w of finding a picture's caption among those of the batch, in the losses of both."""
    mismatched: Portion = 0.5
    """Share m of what D is to reject that is data with a caption of another picture, or its own altered; the rest is
    made."""
    gradient_penalty: NotNegative = 0.1
    """Weight r1 of the squared gradient of D at data."""
    penalty_every: Count = 8
    """It is taken in every so many steps, and weighs so much more then."""
    shown_noise: NotNegative = 0.3
    """Std of the noise on what D is shown."""
    ema: Share = 0.99
    checkpoint_seconds: NotNegative = 180.0

    def __post_init__(self) -> None:
        if self.reading_steps >= self.steps:
            raise UserError(f"reading_steps {self.reading_steps} leave none of {self.steps} steps to play: raise steps")


def encode_latents(fresh: FreshGAN, world: PairSource, config: Duel, folder: Path) -> None:
    """Write the latents and captions of the data set to FOLDER/latents.pt, unless they are there."""
    if (folder / LATENTS).exists():
        return
    latents, captions, altered = [], [], []
    for start in range(0, config.num_pairs, AT_ONCE):
        rows = range(start, min(start + AT_ONCE, config.num_pairs))
        pictures, texts = draw(world, config.seed, "pairs", rows, config.noisy_share, 1.0)
        latents.append(fresh.latents(pictures.movedim(-1, 1) / 255))
        captions += [text for text, _ in texts]
        altered += [text for _, text in texts]
    save(folder / LATENTS, {"latents": torch.cat(latents), "captions": captions, "altered": altered})


@dataclass(frozen=True)
class Given:
    """What a step of training is given: latents of data, the numbers of their captions and of those altered, z, y.

    `noise` is what D is shown with: of data, of samples, and of samples as the generator learns from them.
    """

    x: Float[Tensor, "batch *latent"]
    caption: Int[Tensor, " batch"]
    altered: Int[Tensor, " batch"]
    z: Float[Tensor, "batch *latent"]
    y: Float[Tensor, "batch *latent"]
    noise: Float[Tensor, "3 batch *latent"]


class Data:
    """The data set, a z for each of its captions, and what the text encoders make of all its captions."""

    def __init__(self, fresh: FreshGAN, seed: int, folder: Path) -> None:
        data = torch.load(folder / LATENTS, weights_only=True)
        texts = sorted({*data["captions"], *data["altered"]})
        place = {text: i for i, text in enumerate(texts)}
        self.latents: Tensor = data["latents"]
        self.caption, self.altered = (torch.tensor([place[t] for t in data[key]]) for key in ("captions", "altered"))
        self.condition: Any = fresh.model.encode([Prompt(text) for text in texts])
        self.z = Rng((seed, "z")).normal(torch.arange(len(self.latents)), tuple(self.latents.shape[1:]))

    def given(self, step: int, y: Float[Tensor, "pairs *latent"], config: Duel) -> Given:
        """Return what `step` is given, with what is to be made of each z: it depends on (seed, step) alone."""
        generator = Rng((config.seed, "gan", step)).generator()
        chosen = torch.randint(len(self.caption), (config.batch,), generator=generator)
        shown = config.shown_noise * torch.randn(3, config.batch, *self.latents.shape[1:], generator=generator)
        return Given(self.latents[chosen], self.caption[chosen], self.altered[chosen], self.z[chosen], y[chosen], shown)

    def context(self, caption: Int[Tensor, " batch"]) -> Float[Tensor, "batch tokens text"]:
        """Return what D is given of captions."""
        context: Tensor = self.condition["context"][caption]
        return context


@torch.no_grad()
def ask(teacher: Denoiser, data: Data, config: Duel, folder: Path, log: Log) -> Float[Tensor, "pairs *latent"]:
    """Return where the teacher leads from each z; what FOLDER/pairs.pt holds is not asked again."""
    path = folder / PAIRS
    y: Tensor = torch.load(path, weights_only=True)["y"] if path.exists() else data.z[:0]
    guided = Denoising(teacher, Sampler(DPMSolver(), config.teacher_steps, guidance=config.guidance))
    for first in range(len(y), len(data.z), AT_ONCE):
        rows, whole = slice(first, first + AT_ONCE), torch.tensor([1.0, 0.0])
        led = chain(guided, whole, config.teacher_steps, data.condition, data.caption[rows], data.z[rows, None])
        y = torch.cat([y, led.x0])
        save(path, {"y": y})
        log({"stage": "pairs", "step": len(y)})
    return y


def train_both(
    fresh: FreshGAN, data: Data, y: Float[Tensor, "pairs *latent"], config: Duel, folder: Path, log: Log
) -> None:
    """Fit the discriminator and the generator by turns; both are then what they were on average."""
    d, g = fresh.discriminator, nn.ModuleDict(dict(fresh.model.networks))
    judges = Fit(d, config.discriminator_lr, 0.0, config.steps, config.warmup, config.ema, ALONE, betas=(0.0, 0.99))
    draws = Fit(g, config.lr, 0.0, config.steps, config.warmup, config.ema, ALONE)
    for step in judges.steps(folder / PLAYERS, config.checkpoint_seconds, beside=(draws,)):
        given, playing = data.given(step, y, config), step >= config.reading_steps
        made = fresh.model.generate(given.z, data.condition, given.caption)
        d.requires_grad_(True)
        loss, health = judged(d, made.detach(), given, data, step, config) if playing else read(d, given, data)
        judges.update(loss)
        d.requires_grad_(False)
        loss = imitated(made, given.y)
        health |= {"error": loss.item()}
        if playing:
            praised, its = drawn(d, made, given, data, config)
            loss, health = loss + config.play * praised, health | its
        draws.update(loss)
        if step % 50 == 0:
            log({"stage": "gan", "step": step, **health} | judges.seconds())
    for fit in (judges, draws):
        fit.use_average()


def imitated(made: Float[Tensor, "batch *latent"], y: Float[Tensor, "batch *latent"]) -> Float[Tensor, ""]:
    """Return E |G(z, c) - y|^2 / dim(y)."""
    return (made - y).square().mean()


def read(d: Any, given: Given, data: Data) -> tuple[Float[Tensor, ""], dict[str, float]]:
    """Return D's loss while it learns to read, and the same for the log."""
    _, seen = d.see(given.x + given.noise[0])
    found = contrast(seen, *_texts(d, given, data), given.caption, given.altered, d.log_scale.exp())
    return found, {"contrast": found.item()}


def judged(
    d: Any, made: Float[Tensor, "batch *latent"], given: Given, data: Data, step: int, config: Duel
) -> tuple[Float[Tensor, ""], dict[str, float]]:
    """Return D's loss, and its parts for the log."""
    steep = config.gradient_penalty > 0 and step % config.penalty_every == 0
    x = (given.x + given.noise[0]).requires_grad_(steep)
    said, altered = _texts(d, given, data)
    (real, seen), (false, wrongly) = d.see(x), d.see(made + given.noise[1])
    others, theirs = mismatch(said, altered, given)
    unmatched = (real + (seen * others).sum(1))[theirs]
    real, false = real + (seen * said).sum(1), false + (wrongly * said).sum(1)
    told = hinge(real, false, unmatched, config.mismatched)
    found = contrast(seen, said, altered, given.caption, given.altered, d.log_scale.exp())
    loss = told + config.contrast * found
    if steep:
        loss = loss + config.penalty_every * config.gradient_penalty / 2 * steepness(real, x)
    return loss, {"hinge": told.item(), "contrast": found.item()}


def mismatch(
    said: Float[Tensor, "batch shared"], altered: Float[Tensor, "batch shared"], given: Given
) -> tuple[Float[Tensor, "batch shared"], Bool[Tensor, " batch"]]:
    """Return captions that are not their pictures': their own altered, and the next picture's, by turns.

    The second says where they are other captions indeed.
    """
    own = torch.arange(len(said)) % 2 == 0
    caption = torch.where(own, given.altered, given.caption.roll(-1))
    return torch.where(own[:, None], altered, said.roll(-1, 0)), caption != given.caption


def drawn(
    d: Any, made: Float[Tensor, "batch *latent"], given: Given, data: Data, config: Duel
) -> tuple[Float[Tensor, ""], dict[str, float]]:
    """Return G's loss, and how hard the captions of what it made are to find."""
    real, seen = d.see(made + given.noise[2])
    said, altered = _texts(d, given, data)
    found = contrast(seen, said, altered, given.caption, given.altered, d.log_scale.detach().exp())
    return config.contrast * found - (real + (seen * said).sum(1)).mean(), {"made_contrast": found.item()}


def _texts(d: Any, given: Given, data: Data) -> tuple[Tensor, Tensor]:
    """Return what D reads of the captions, and of those altered."""
    said, altered = d.read(data.context(torch.cat([given.caption, given.altered]))).chunk(2)
    return said, altered


def pretrain_gan(fresh: FreshGAN, world: PairSource, config: Duel, folder: Path) -> None:
    """Run what is left of the stages in `folder`, then write the model to `folder/pipeline`."""
    log = begin(folder, asdict(config))
    encode_latents(fresh, world, config, folder)
    data = Data(fresh, config.seed, folder)
    train_both(fresh, data, ask(fresh.teacher, data, config, folder, log), config, folder, log)
    fresh.save(folder / "pipeline")
    finish(folder)
