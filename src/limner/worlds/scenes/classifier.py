"""An independent judge: a small network that reads a picture without any rule of the checker.

It is trained on renders only, and tells later whether a tuned generator has found pictures that fool the checker.

python -m limner.worlds.scenes.classifier train --seed 0
python -m limner.worlds.scenes.classifier evaluate --num 4000 --seed 1
"""

from __future__ import annotations

import argparse
import functools
import io
import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from limner.core.errors import UserError
from limner.worlds.scenes.grammar import COLOURS, MIRRORED, RELATIONS, SHAPES, Item, Scene, sample_scene
from limner.worlds.scenes.render import SIZE, render

KINDS = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)
MAX_COUNT = 4
UNRELATED = -1
WEIGHTS = "classifier.safetensors"
FREE_SHARE = 0.5
"""Share of training pictures that show one to four arbitrary objects, as no caption would ask for them."""


class Classifier(nn.Module):
    """Density maps: every (colour, shape) pair has a map on an 8x8 grid whose sum is its number of objects.

    The relation of two objects follows from the centroids of their maps. No rule of the checker enters.
    """

    def __init__(self) -> None:
        super().__init__()
        channels, strides = (3, 32, 48, 64, 96, 128), (2, 2, 1, 2, 1)
        layers: list[nn.Module] = []
        for width_in, width_out, stride in zip(channels[:-1], channels[1:], strides, strict=True):
            size = 5 if width_in == 3 else 3
            layers.append(nn.Conv2d(width_in, width_out, size, stride, size // 2, bias=False))
            layers += [nn.BatchNorm2d(width_out), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers)
        self.maps = nn.Conv2d(channels[-1], len(KINDS), 1)
        self.sharpness = nn.Parameter(torch.tensor([4.0, 1.0]))
        nn.init.constant_(self.maps.bias, -5.0)  # type: ignore[arg-type]

    def forward(
        self, pixels: Float[Tensor, "batch 3 64 64"]
    ) -> tuple[Float[Tensor, "batch kinds counts"], Float[Tensor, "batch kinds 2"]]:
        """Return logits of the counts 0 to 4 of every kind, and centroids (x, y) in grid cells."""
        density = functional.softplus(self.maps(self.body(pixels * 2.0 - 1.0)))
        count = density.sum(dim=(2, 3))
        levels = torch.arange(MAX_COUNT + 1, dtype=count.dtype, device=count.device)
        logits = -self.sharpness[0] * (count[:, :, None] - levels) ** 2
        cells = torch.arange(density.shape[-1], dtype=count.dtype, device=count.device)
        total = count + 1e-6
        x, y = (density.sum(dim=2) * cells).sum(dim=2) / total, (density.sum(dim=3) * cells).sum(dim=2) / total
        return logits, torch.stack((x, y), dim=2)

    def relation(
        self, centroids: Float[Tensor, "batch kinds 2"], first: Int[Tensor, " batch"], second: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch 4"]:
        """Return logits of the four relations of kind `first` to kind `second`, in the order of RELATIONS."""
        rows = torch.arange(len(first), device=first.device)
        dx, dy = (centroids[rows, second] - centroids[rows, first]).unbind(dim=1)
        return self.sharpness[1] * torch.stack((dx, -dx, dy, -dy), dim=1)


def agrees(image: NDArray[np.uint8], scene: Scene) -> bool:
    """Tell whether the network sees in the picture `[64, 64, 3]` exactly what the scene says."""
    return bool(agrees_batch(image[None], [scene])[0])


def agrees_batch(images: NDArray[np.uint8], scenes: Sequence[Scene]) -> NDArray[np.bool_]:
    """Tell for pictures `[n, 64, 64, 3]` whether the network sees exactly what each scene says.

    Raises UserError for a scene that leaves a count or colour open.
    """
    labels = [_label(scene) for scene in scenes]
    right: list[Tensor] = []
    with torch.no_grad():
        for start in range(0, len(scenes), 256):
            pixels = torch.from_numpy(images[start : start + 256]).permute(0, 3, 1, 2).float() / 255.0
            counts, ends = _stack(labels[start : start + 256])
            right.append(_right(load(), pixels, counts, ends))
    return np.asarray(torch.cat(right).numpy())


@functools.cache
def load() -> Classifier:
    """Load the packaged weights."""
    with resources.as_file(resources.files(__package__) / WEIGHTS) as path:
        return load_from(path)


def load_from(path: Path) -> Classifier:
    """Load weights from a file."""
    model = Classifier()
    model.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    return model.eval()


def _right(
    model: Classifier,
    pixels: Float[Tensor, "batch 3 64 64"],
    counts: Int[Tensor, "batch kinds"],
    ends: Int[Tensor, "batch 3"],
) -> Tensor:
    """Tell where the most likely counts and relation are these."""
    logits, centroids = model(pixels)
    right = (logits.argmax(dim=2) == counts).all(dim=1)
    first, second, relation = ends.unbind(dim=1)
    related = model.relation(centroids, first, second).argmax(dim=1) == relation
    agreed: Tensor = right & (related | (relation == UNRELATED))
    return agreed


def _label(scene: Scene) -> tuple[list[int], tuple[int, int, int]]:
    """Return the count of every kind, and (kind, kind, relation) or UNRELATED."""
    counts = [0] * len(KINDS)
    for item in scene.items:
        if item.colour is None or item.count is None:
            raise UserError(f"the scenes classifier needs a full scene, got {scene}; state every count and colour")
        counts[KINDS.index((item.colour, item.shape))] += item.count
    if scene.relation is None:
        return counts, (0, 0, UNRELATED)
    first, second = (KINDS.index((item.colour or "", item.shape)) for item in scene.items)
    if first > second:
        return counts, (second, first, RELATIONS.index(MIRRORED[scene.relation]))
    return counts, (first, second, RELATIONS.index(scene.relation))


def _stack(labels: Sequence[tuple[list[int], tuple[int, int, int]]]) -> tuple[Tensor, Tensor]:
    """Return labels as two tensors."""
    return torch.tensor([counts for counts, _ in labels]), torch.tensor([ends for _, ends in labels])


def _draw_scene(rng: np.random.Generator) -> Scene:
    """Draw a scene of either split, or arbitrary objects."""
    if rng.random() >= FREE_SHARE:
        return sample_scene(rng, "heldout" if rng.random() < 0.25 else "train")
    kinds = [KINDS[int(k)] for k in rng.integers(0, len(KINDS), int(rng.integers(1, 5)))]
    return Scene("color_attr", tuple(Item(1, colour, shape) for colour, shape in kinds))


def _augment(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Shift by up to three pixels, and with probability 0.4 pass through JPEG."""
    dy, dx = (int(v) for v in rng.integers(0, 7, 2))
    image = np.pad(image, ((3, 3), (3, 3), (0, 0)), mode="edge")[dy : dy + SIZE, dx : dx + SIZE]
    if rng.random() < 0.4:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=int(rng.integers(45, 96)))
        image = np.asarray(Image.open(buffer))
    return image


def _soften(pixels: Float[Tensor, "batch 3 64 64"], rng: np.random.Generator) -> Float[Tensor, "batch 3 64 64"]:
    """Blur half of the pictures (sigma up to 1.3 pixels), add noise, and vary brightness and contrast."""
    sigma = float(rng.uniform(0.4, 1.3))
    taps = torch.exp(-0.5 * (torch.arange(-4, 5) / sigma) ** 2)
    kernel = (taps / taps.sum()).expand(3, 1, 9)
    half = pixels[::2]
    half = functional.conv2d(functional.pad(half, (4, 4, 4, 4), mode="replicate"), kernel[:, :, None, :], groups=3)
    pixels[::2] = functional.conv2d(half, kernel[:, :, :, None], groups=3)
    batch = len(pixels)
    gain = torch.from_numpy(rng.uniform(0.9, 1.1, (batch, 3, 1, 1))).float()
    bias = torch.from_numpy(rng.uniform(-0.04, 0.04, (batch, 3, 1, 1))).float()
    std = torch.from_numpy(rng.uniform(0.0, 0.03, (batch, 1, 1, 1))).float()
    noise = torch.from_numpy(rng.standard_normal(pixels.shape, dtype=np.float32))
    return (pixels * gain + bias + std * noise).clamp(0.0, 1.0)


def make_batch(size: int, rng: np.random.Generator, augment: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Render a batch; returns pixels `[size, 3, 64, 64]` in [0, 1], counts `[size, 24]` and ends `[size, 3]`."""
    scenes = [_draw_scene(rng) for _ in range(size)]
    images = [render(scene, rng) for scene in scenes]
    if augment:
        images = [_augment(image, rng) for image in images]
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255.0
    counts, ends = _stack([_label(scene) for scene in scenes])
    return (_soften(pixels, rng) if augment else pixels), counts, ends


def train(seed: int, steps: int, batch: int, path: Path) -> None:
    """Train on fresh renders and write float16 weights."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = Classifier().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps, pct_start=0.1)
    start = time.perf_counter()
    for step in range(1, steps + 1):
        pixels, counts, ends = make_batch(batch, rng, augment=True)
        logits, centroids = model(pixels)
        loss = functional.cross_entropy(logits.flatten(0, 1), counts.flatten(), reduction="sum") / batch
        first, second, relation = ends.unbind(dim=1)
        related = model.relation(centroids, first, second)
        loss = loss + functional.cross_entropy(related, relation, ignore_index=UNRELATED, reduction="sum") / batch
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 200 == 0 or step == steps:
            print(f"step {step}/{steps} loss {loss.item():.4f} seconds {time.perf_counter() - start:.0f}", flush=True)
    state = {n: t.half().contiguous() for n, t in model.state_dict().items() if t.dtype.is_floating_point}
    state |= {n: t for n, t in model.state_dict().items() if not t.dtype.is_floating_point}
    save_file(state, path)


def accuracy(model: Classifier, num: int, seed: int, augment: bool) -> float:
    """Return the share of fresh renders on which every count and the relation are right."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        right = [_right(model.eval(), *make_batch(100, rng, augment)) for _ in range(num // 100)]
    return float(torch.cat(right).float().mean())


def main() -> None:
    """Train or evaluate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("train", "evaluate"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--num", type=int, default=4000, help="renders to evaluate on")
    parser.add_argument("--path", type=Path, default=Path(__file__).with_name(WEIGHTS))
    options = parser.parse_args()
    if options.task == "train":
        train(options.seed, options.steps, options.batch, options.path)
        options.seed += 1
    model = load_from(options.path)
    for name, augment in (("plain", False), ("augmented", True)):
        share = accuracy(model, options.num, options.seed, augment)
        print(f"{name} renders: every count and the relation right on {share:.2%} of {options.num}")


if __name__ == "__main__":
    main()
