"""Two judges of emoji: networks that bring a picture and its caption to one space, each from its half of the pictures.

`fit.py` trains both; `docs/emoji.md` says what they can do.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from limner.core.media import Media
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.judging.efficientnet import PICTURE_WIDTH, picture_features
from limner.judging.minilm import TEXT_WIDTH, text_features
from limner.worlds.emoji.grammar import FOLDER, SIZE, VOCABULARY, Split, prompts

WIDTH = 128
WORDS = {word: i for i, word in enumerate(VOCABULARY.alone)}


class First(nn.Module):
    """Two linear heads, on EfficientNet-Lite0's features of pictures and MiniLM's of texts."""

    mean: Tensor
    std: Tensor
    gallery: Tensor
    """The vector of each training caption, so that they need not be read again."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(PICTURE_WIDTH))
        self.register_buffer("std", torch.ones(PICTURE_WIDTH))
        self.picture = nn.Sequential(nn.Dropout(0.5), nn.Linear(PICTURE_WIDTH, WIDTH))
        self.text = nn.Sequential(nn.Dropout(0.5), nn.Linear(TEXT_WIDTH, WIDTH))
        self.log_scale = nn.Parameter(torch.tensor(2.66))
        self.register_buffer("gallery", torch.zeros(len(captions("train")), WIDTH))

    def heads(self, pictures: Float[Tensor, "n 1280"], texts: Float[Tensor, "m 384"]) -> tuple[Tensor, Tensor]:
        """Return vectors of length 1 of features of pictures and of texts."""
        seen = self.picture((pictures - self.mean) / self.std)
        return functional.normalize(seen, dim=1), functional.normalize(self.text(texts), dim=1)

    def see(self, pixels: Float[Tensor, "n 3 height width"]) -> Float[Tensor, "n width"]:
        """Return vectors of length 1 of pictures in [0, 1]."""
        return self.heads(picture_features(pixels), pixels.new_zeros(0, TEXT_WIDTH))[0]

    def read(self, texts: Sequence[str]) -> Float[Tensor, "m width"]:
        """Return vectors of length 1 of texts."""
        return self.heads(self.mean.new_zeros(0, PICTURE_WIDTH), text_features(texts).to(self.mean.device))[1]


class Second(nn.Module):
    """A plain convolutional network, and the mean of a text's word vectors; nothing in it was trained before."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        widths = (3, 32, 64, 128, 192)
        for width_in, width_out in zip(widths[:-1], widths[1:], strict=True):
            size = 5 if width_in == 3 else 3
            layers.append(nn.Conv2d(width_in, width_out, size, 2, size // 2, bias=False))
            layers += [nn.BatchNorm2d(width_out), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers)
        self.picture = nn.Sequential(nn.Dropout(0.2), nn.Linear(widths[-1], WIDTH))
        self.words = nn.EmbeddingBag(len(WORDS), WIDTH, mode="mean")
        nn.init.normal_(self.words.weight, std=0.1)  # a word that half "b" never says stays faint
        self.log_scale = nn.Parameter(torch.tensor(2.66))

    def see(self, pixels: Float[Tensor, "n 3 height width"]) -> Float[Tensor, "n width"]:
        """Return vectors of length 1 of pictures in [0, 1]."""
        seen = functional.interpolate(pixels, size=(SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False)
        return functional.normalize(self.picture(self.body(2 * seen - 1).mean((2, 3))), dim=1)

    def read(self, texts: Sequence[str]) -> Float[Tensor, "m width"]:
        """Return vectors of length 1 of texts, whose unknown words are not read."""
        read = [[WORDS[word] for word in text.replace(",", " ").split() if word in WORDS] for text in texts]
        starts = torch.tensor([0, *(len(words) for words in read)])[:-1].cumsum(0)
        words = torch.tensor([word for words in read for word in words], dtype=torch.long)
        device = self.words.weight.device
        return functional.normalize(self.words(words.to(device), starts.to(device)), dim=1)


@functools.cache
def captions(split: Split) -> tuple[str, ...]:
    """Return the captions of a split, one a family."""
    return tuple(prompt.text for prompt in prompts(split))


@functools.cache
def first() -> First:
    """Return the first judge's network with the packaged weights."""
    model = First()
    model.load_state_dict({name: tensor.float() for name, tensor in load_file(FOLDER / "first.safetensors").items()})
    return model.eval().requires_grad_(False)


@functools.cache
def second() -> Second:
    """Return the second judge's network with the packaged weights."""
    model = Second()
    state = load_file(FOLDER / "second.safetensors").items()
    model.load_state_dict({n: t.float() if t.is_floating_point() else t for n, t in state})
    return model.eval().requires_grad_(False)


def similarities(
    model: First | Second,
    media: Media,
    asked: Sequence[Prompt],
    others: Sequence[str],
    vectors: Float[Tensor, "others width"],
) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch others"], Bool[Tensor, " batch"]]:
    """Return each picture's cosine with its caption, and with others, -inf where one is its own; and which are finite.

    `vectors` are those of the others. Several frames are averaged.
    """
    frames = media.frames().float()
    valid = frames.isfinite().flatten(1).all(1)
    seen = model.see(frames.nan_to_num(0.0, 0.0, 0.0).clamp(0, 1).flatten(0, 1)).unflatten(0, frames.shape[:2]).mean(1)
    unique = list(dict.fromkeys(prompt.text for prompt in asked))
    own = model.read(unique)[[unique.index(prompt.text) for prompt in asked]].to(seen.device)
    same = torch.tensor([[prompt.text == other for other in others] for prompt in asked], device=seen.device)
    rest = (seen @ vectors.to(seen.device).T).masked_fill(same, -torch.inf)
    return (seen * own).sum(1), rest, valid


@dataclass(frozen=True)
class EmojiJudge:
    """Return the log-probability of a picture's own caption among all training captions, in nats, 0 at most.

        score = log softmax_j(scale cos(picture, caption_j))_own

    Two linear heads on frozen features, trained on half "a" by contrast. Differentiable in the pixels. A picture that
    is not finite is invalid. Raises UserError when asked if a package of the extra `emoji` is missing.
    """

    spec: ClassVar[RewardSpec] = RewardSpec(
        "emoji",
        "log-probability of the emoji's own caption among the training captions; 0 is certain",
        high=0.0,
        unit="nats",
        needs=("prompt",),
        components={"cosine": "-1 to 1: of picture and caption"},
        differentiable=True,
        version="2",
        source="the emoji world's first judge, on EfficientNet-Lite0 and all-MiniLM-L6-v2",
        weights_licence="Apache-2.0",
    )

    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        own, rest, valid = similarities(first(), media, prompts, captions("train"), first().gallery)
        scale = first().log_scale.exp()
        score = -torch.cat([own[:, None], rest], 1).sub(own[:, None]).mul(scale).logsumexp(1)
        return RewardOutput(torch.where(valid, score, torch.nan), valid, {"cosine": torch.where(valid, own, torch.nan)})


@dataclass(frozen=True)
class EmojiSecond:
    """Return 1 if a picture's own caption is nearer than every other held-out caption, else 0 (R@1).

    A small network that was trained from nothing on half "b", words included. A picture that is not finite is invalid.
    """

    spec: ClassVar[RewardSpec] = RewardSpec(
        "emoji_second",
        "1 if an independent judge finds the prompt before all other held-out captions, else 0",
        low=0.0,
        high=1.0,
        needs=("prompt",),
        components={"cosine": "-1 to 1: of picture and caption", "reciprocal_rank": "0 to 1: 1 / the caption's place"},
        source="the emoji world's second judge",
        weights_licence="Apache-2.0",
    )

    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        heldout = captions("heldout")
        with torch.no_grad():
            own, rest, valid = similarities(second(), media, prompts, heldout, second().read(heldout))
        rank = 1.0 + (rest >= own[:, None]).sum(1)
        columns = {"cosine": own, "reciprocal_rank": 1 / rank, "top1": (rank == 1).float()}
        said = {name: torch.where(valid, column, torch.nan) for name, column in columns.items()}
        return RewardOutput(said.pop("top1"), valid, said)
