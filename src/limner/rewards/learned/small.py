"""A small network that looks in a picture for each word of a text, trained from nothing on what people said."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from limner.rewards.learned.motion import with_change

UNKNOWN = 0
"""The number of every word that no prompt of the training had."""
FOUND = 5
"""Numbers that say where a word was found: how much in all, and at peaks alone, how clearly, and the middle of it."""


def words_of(text: str) -> list[str]:
    """Return the words of a text, in lower case, punctuation left out."""
    return re.findall(r"\w+", text.lower())


def vocabulary(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the words of some texts, each once, in alphabetical order."""
    return tuple(sorted({word for text in texts for word in words_of(text)}))


def eye_for_pixels(width: int) -> nn.Sequential:
    """Return a network that sees, for every 8 pixels a side, what is there in `width` numbers."""
    layers: list[nn.Module] = []
    for width_in, width_out, stride in (
        (3, width // 2, 2),
        (width // 2, width, 2),
        (width, width, 1),
        (width, width, 2),
    ):
        size = 5 if width_in == 3 else 3
        layers += [nn.Conv2d(width_in, width_out, size, stride, size // 2, bias=False)]
        layers += [nn.GroupNorm(8, width_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(width, width, 1))


class Small(nn.Module):
    """A convolutional `eye` sees what is where; each word, read in its context, is looked for there; all is told.

        map_l = <seen, word_l> / sqrt(width),   mass_l = sum softplus(map_l),   middle_l = the centre of that mass

    Peaks are the places where a map is highest of the 3 x 3 around them: what is there three times has three, however
    large it is (CenterNet's, arXiv:1904.07850, section 4). A recurrent network reads the words once more, each with
    what was found of it, and its last state is judged. The comparison of each word with each place is that of FILIP
    (arXiv:2111.07783), which keeps the highest only. With `motion` it looks in a mixture of what is seen and of how
    that has changed since the frame before.
    """

    def __init__(
        self, words: Sequence[str], eye: nn.Module, edge: int, width: int, outputs: int, motion: bool = False
    ) -> None:
        super().__init__()
        self.edge, self.words = edge, {word: i for i, word in enumerate(words, UNKNOWN + 1)}
        self.eye = eye
        self.embed = nn.Embedding(len(words) + 1, width)
        self.reader = nn.GRU(width, width // 2, batch_first=True, bidirectional=True)
        self.teller = nn.GRU(width + FOUND, width, batch_first=True)
        self.head = nn.Sequential(nn.Linear(2 * width, 2 * width), nn.ReLU(), nn.Linear(2 * width, outputs))
        self.mix = nn.Conv2d(2 * width, width, 1) if motion else None

    def see(self, pixels: Float[Tensor, "n 3 height width"]) -> Float[Tensor, "n channels h w"]:
        """Return a map of what is where in pictures in [0, 1]."""
        seen: Tensor = self.eye(2 * in_size(pixels, self.edge) - 1)
        return seen

    def read(self, texts: Sequence[str]) -> Float[Tensor, "n words channels_1"]:
        """Return each word as it is meant in its text, and 1 behind it; 0 behind what is padding."""
        numbers = [[self.words.get(word, UNKNOWN) for word in words_of(text)] or [UNKNOWN] for text in texts]
        device = self.embed.weight.device
        states = [self.reader(self.embed(torch.tensor([each], device=device)))[0][0] for each in numbers]
        return pad_sequence([functional.pad(each, (0, 1), value=1.0) for each in states], batch_first=True)

    def judge(
        self, seen: Float[Tensor, "n channels h w"], read: Float[Tensor, "n words channels_1"], frames: int
    ) -> Float[Tensor, "n outputs"]:
        """Return numbers for frames, each with its text."""
        if self.mix is not None:
            seen = self.mix(with_change(seen, frames))
        word, there = read[..., :-1], read[..., -1]
        maps = torch.einsum("ncx,nlc->nlx", seen.flatten(2), word) / seen.shape[1] ** 0.5
        amount = functional.softplus(maps)
        mass = amount.sum(2)
        grid = maps.detach().unflatten(2, seen.shape[-2:])
        peak = grid == functional.max_pool2d(grid, 3, 1, 1)
        peaks = (amount * peak.flatten(2)).sum(2)
        axes = [torch.linspace(-1, 1, size, device=seen.device) for size in seen.shape[-2:]]
        places = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)
        middle = torch.einsum("nlx,px->nlp", amount, places) / (mass[..., None] + 1e-6)
        found = torch.cat([word, mass.log1p()[..., None], peaks[..., None], maps.amax(2)[..., None], middle], 2)
        states, _ = self.teller(found)
        last = states[torch.arange(len(seen)), there.sum(1).long() - 1]
        told: Tensor = self.head(torch.cat([last, seen.mean((2, 3))], 1))
        return told


def in_size(pixels: Float[Tensor, "n 3 height width"], edge: int) -> Float[Tensor, "n 3 edge edge"]:
    """Return pictures in the size in which they are learned from."""
    if pixels.shape[-2:] == (edge, edge):
        return pixels
    return functional.interpolate(pixels, size=(edge, edge), mode="bilinear", antialias=True, align_corners=False)
