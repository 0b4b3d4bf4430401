"""Train a world's GAN: a generator draws, in one evaluation, what a discriminator cannot tell from data.

Stages, each resumable: (1) the latents of a fixed data set of noisy (caption, picture) pairs, by the autoencoder of
another base; (2) the generator as the decoder of a conditional autoencoder, while the discriminator learns to read; (3)
discriminator and generator, by turns. With h what D sees in latents, e what it reads of a caption, and q(z | x) the
Gaussian that an encoder gives, which is not kept,

    (2) G   E |x - G(z, c)|^2 / (2 imitation_std^2) + KL(q(z | x) || N(0, I)),    z ~ q
        D   contrast(h(x), e(c))
    (3) D   E (1 - D(x, c))+ + (1 - m) E (1 + D(G(z, c), c))+ + m E (1 + D(x, c'))+
            + w contrast(h(x), e(c)) + r1/2 E |grad_x D(x, c)|^2
        G   - E D(G(z, c), c) + w contrast(h(G(z, c)), e(c))

in which `contrast` is to find a picture's caption among those of its batch, and beside one of its own that was altered:
that teaches what captions say. c' is a caption of another picture, or the picture's own altered, half of a batch each:
without it D may call real whatever looks so, and G learns no more than to look so. D learns to read alone at first: it
does so faster where it need not tell samples from data, and a generator has little to learn from one that cannot read.
A generator that begins as a decoder draws as many kinds of pictures as there are, where one that begins from nothing
soon repeats a few. Whatever D is shown has noise on it, data and samples alike, which keeps the two from being told
apart at a glance.

Source: `limner.objectives.adversarial`; data with captions that are not theirs beside samples, m = 1/2, Reed et al.,
arXiv:1605.05396, algorithm 1; a decoder that becomes a generator, Larsen et al., arXiv:1512.09300; contrast in both
losses, Zhang et al., arXiv:2101.04702, section 3.2; noise on what D is shown, Sønderby et al., arXiv:1610.04490,
section 3.4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from limner.core.errors import UserError
from limner.core.rng import Rng
from limner.core.settings import Count, Natural, NotNegative, Positive, Range, Share, settings
from limner.core.team import ALONE
from limner.objectives.adversarial import contrast, hinge, steepness
from limner.training.fit import Fit, Log, begin, save
from limner.training.pretrain import PairSource, Portion, Rate, draw, finish, to_signed

HOW = ("checkpoint_seconds",)
"""Settings that do not change what comes out, and may change when a folder goes on."""


class FreshGAN(Protocol):
    """A generator and a discriminator that were not trained yet, as far as pretraining is concerned."""

    @property
    def generator(self) -> nn.Module:
        """z and what `conditions` returns in, latents out."""
        ...

    @property
    def discriminator(self) -> Any:
        """`see` of latents, `read` of conditions, and `log_scale` of their cosines."""
        ...

    @property
    def encoder(self) -> nn.Module:
        """Latents in, mean and log of the variance of their z out."""
        ...

    @property
    def noise(self) -> int:
        """Numbers in one z."""
        ...

    def latents(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch *latent"]:
        """Return the latents of pictures in [-1, 1]."""
        ...

    def conditions(self, texts: Sequence[str]) -> Mapping[str, Tensor]:
        """Return words, mask and pooled of captions, a row each."""
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
    """The base whose autoencoder and words it has; empty: the one that is named as the world is."""
    noisy_share: Portion = 0.25
    num_pairs: Annotated[int, Range(least=1, most=10**7)] = 24_000
    width: Annotated[int, Range(least=8, most=4096)] = 128
    """Of both networks."""
    steps: Count = 4500
    batch: Annotated[int, Range(least=2, most=10_000)] = 64
    lr: Rate = 2e-3
    warmup: Count = 50
    reading_steps: Natural = 1500
    """The first of these steps, in which D learns to read, and G to decode."""
    imitation_std: Positive = 0.3
    """Std of what G is to leave of data as a decoder; the smaller, the more z says, and captions the less."""
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
    ema: Share = 0.995
    checkpoint_seconds: NotNegative = 180.0

    def __post_init__(self) -> None:
        if self.reading_steps >= self.steps:
            raise UserError(
                f"reading_steps {self.reading_steps} leave none of {self.steps} steps for the generator: raise steps"
            )


def encode_latents(fresh: FreshGAN, world: PairSource, config: Duel, folder: Path) -> None:
    """Write the latents and captions of the data set to FOLDER/latents.pt, unless they are there."""
    if (folder / "latents.pt").exists():
        return
    latents, captions, altered = [], [], []
    with torch.inference_mode():
        for start in range(0, config.num_pairs, 250):
            rows = range(start, min(start + 250, config.num_pairs))
            pictures, texts = draw(world, config.seed, "pairs", rows, config.noisy_share, 1.0)
            latents.append(fresh.latents(to_signed(pictures)))
            captions += [text for text, _ in texts]
            altered += [text for _, text in texts]
    save(folder / "latents.pt", {"latents": torch.cat(latents), "captions": captions, "altered": altered})


@dataclass(frozen=True)
class Given:
    """What a step of training is given: latents of data, the numbers of their captions and of those altered, z, noise.

    `noise` is what D is shown with: of data, of samples, and of samples as the generator learns from them.
    """

    x: Float[Tensor, "batch *latent"]
    caption: Int[Tensor, " batch"]
    altered: Int[Tensor, " batch"]
    z: Float[Tensor, "batch noise"]
    noise: Float[Tensor, "3 batch *latent"]


class Data:
    """The data set, and what the text encoder makes of all its captions."""

    def __init__(self, fresh: FreshGAN, folder: Path) -> None:
        data = torch.load(folder / "latents.pt", weights_only=True)
        texts = sorted({*data["captions"], *data["altered"]})
        place = {text: i for i, text in enumerate(texts)}
        self.latents: Tensor = data["latents"]
        self.caption, self.altered = (torch.tensor([place[t] for t in data[key]]) for key in ("captions", "altered"))
        with torch.no_grad():
            self.conditions = dict(fresh.conditions(texts))

    def given(self, step: int, noise: int, config: Duel) -> Given:
        """Return what `step` is given: it depends on (seed, step) alone."""
        generator = Rng((config.seed, "gan", step)).generator()
        chosen = torch.randint(len(self.caption), (config.batch,), generator=generator)
        z = torch.randn(config.batch, noise, generator=generator)
        shown = config.shown_noise * torch.randn(3, config.batch, *self.latents.shape[1:], generator=generator)
        return Given(self.latents[chosen], self.caption[chosen], self.altered[chosen], z, shown)

    def condition(self, caption: Int[Tensor, " batch"]) -> dict[str, Tensor]:
        """Return what the networks are given of captions."""
        return {name: each[caption] for name, each in self.conditions.items()}


def train_both(fresh: FreshGAN, config: Duel, folder: Path, log: Log) -> None:
    """Fit the discriminator and the generator by turns; both are then what they were on average."""
    data, d, g = Data(fresh, folder), fresh.discriminator, fresh.generator
    judges, draws = (
        Fit(each, config.lr, 0.0, steps, config.warmup, config.ema, ALONE, betas=(0.0, 0.99))
        for each, steps in ((d, config.steps), (g, config.steps - config.reading_steps))
    )
    both = nn.ModuleList([g, fresh.encoder])
    decodes = Fit(both, config.lr, 0.0, max(1, config.reading_steps), config.warmup, config.ema, ALONE)
    for step in judges.steps(folder / "gan.pt", config.checkpoint_seconds, beside=(draws, decodes)):
        given = data.given(step, fresh.noise, config)
        if step < config.reading_steps:
            loss = read(d, given, data)
            judges.update(loss)
            decoded, health = imitated(fresh, given, data, config)
            decodes.update(decoded)
            health |= {"contrast": loss.item()}
        else:
            made = g(given.z, **data.condition(given.caption))
            loss, health = judged(d, made.detach(), given, data, step, config)
            judges.update(loss)
            d.requires_grad_(False)
            loss, praised = drawn(d, made, given, data, config)
            draws.update(loss)
            d.requires_grad_(True)
            health |= praised
        if step % 50 == 0:
            log({"stage": "gan", "step": step, **health} | judges.seconds())
    for fit in (judges, draws):
        fit.use_average()


def read(d: Any, given: Given, data: Data) -> Float[Tensor, ""]:
    """Return D's loss while it learns to read."""
    _, seen = d.see(given.x + given.noise[0])
    return contrast(seen, *_texts(d, given, data), given.caption, given.altered, d.log_scale.exp())


def imitated(fresh: FreshGAN, given: Given, data: Data, config: Duel) -> tuple[Float[Tensor, ""], dict[str, float]]:
    """Return G's loss as a decoder, in nats per number of the data, and its parts for the log."""
    mean, log_variance = fresh.encoder(given.x).chunk(2, 1)
    z = mean + (log_variance / 2).exp() * given.z
    error = (fresh.generator(z, **data.condition(given.caption)) - given.x).square().flatten(1).sum(1).mean()
    kl = (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2
    size = given.x[0].numel()
    loss = (error / (2 * config.imitation_std**2) + kl) / size
    return loss, {"decoding_error": error.item() / size, "kl": kl.item()}


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
    with torch.no_grad():
        said, altered = _texts(d, given, data)
    found = contrast(seen, said, altered, given.caption, given.altered, d.log_scale.detach().exp())
    return config.contrast * found - (real + (seen * said).sum(1)).mean(), {"made_contrast": found.item()}


def _texts(d: Any, given: Given, data: Data) -> tuple[Tensor, Tensor]:
    """Return what D reads of the captions, and of those altered."""
    both = data.condition(torch.cat([given.caption, given.altered]))
    said, altered = d.read(both["words"], both["mask"]).chunk(2)
    return said, altered


def pretrain_gan(fresh: FreshGAN, world: PairSource, config: Duel, folder: Path) -> None:
    """Run what is left of the stages in `folder`, then write the model to `folder/pipeline`."""
    log = begin(folder, asdict(config))
    encode_latents(fresh, world, config, folder)
    train_both(fresh, config, folder, log)
    fresh.save(folder / "pipeline")
    finish(folder)
