"""Which published checkpoints fit which card, as `limner plan` predicts it; nothing is measured or downloaded.

    python benchmarks/plans.py [--out docs/memory.md]

Each is trained as `CONFIGS` say, with the largest micro-batch of 8, 4, 2 and 1 that fits. Writes the page.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from limner.machine.cost import Sizes, sizes
from limner.machine.memory import Phase, Place, peak, phases
from limner.machine.plan import GIB, room
from limner.recipes.named import recipe
from limner.recipes.override import override
from limner.registry.published import CARDS
from limner.report.file import write_text
from limner.training.config import RunConfig
from limner.training.workload import workload

CONFIGS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "SD 1.5": ("sd15", {}),
    "SDXL": ("sdxl", {}),
    "SD 3.5 medium": ("sd35_medium", {}),
    "FLUX.1 dev": ("flux1_dev", {}),
    "FLUX.1 dev, base in 4 bits": ("flux1_dev", {"model.quantize": "nf4"}),
    "Wan 2.1 1.3B": ("wan_1_3b", {}),
}
CARD = Place(accelerator=True)

PAGE = """# Memory

Written by `python benchmarks/plans.py`. **No figure on this page was measured on a GPU**: all are predicted by
`limner plan`, from configurations alone, and say nothing of speed.

```bash
limner plan sd35_medium --card 24
limner train sd35_medium --card 24 --reward pickscore
```

A run's own code (encoding, a step of sampling, the loss and its backward pass) is carried out on tensors that have a
shape and no numbers; what is alive at once is added up. On a card stay the networks (LoRA's frozen base in bfloat16, or
in the codes of `model.quantize`), what is trained and Adam's two numbers for each of it, and the decoder in float32;
text encoders leave when they have encoded. With `--model.encoders cpu` they never come, and a card may do where the
table says "no" for `encode`. So

    encode   resident + text encoders + a prompt being encoded
    rollout  resident + path + a pass of sampling, and its own path, if it does not draw all samples at once
    decode   resident + path + as many samples as are decoded at once
    update   resident + path + gradients + forward and backward pass of a micro-batch

and the path of an iteration is samples x (2 + 2 x decisions) x elements of a latent x 4 bytes: the last latent, and of
n decisions the n + 1 latents between which they were made, and n means; where none is recorded, the last latent alone.
Of a card's GiB one is left for its context and its allocator (assumed). Autocast is the CPU's; a GPU's keeps more in
float32 (normalisations).
`limner train --card 24` takes the cheapest settings of `limner plan` that leave it the same run. With `--shard` a
process has its rows of each tensor, and what a pass brings together ([docs/scale.md](scale.md)). With `--model.offload
blocks` the frozen blocks are no longer resident, and a pass brings those that it runs, one at a time.

On a CPU they can be compared. `limner plan scenes --algorithm FlowGRPO --sampler.dynamics FlowSDE --micro_batch 72`
says 604 MiB, and of DiffusionNFT and AWM (with `--sampler.dynamics EulerODE`) 606 and 604.
`python benchmarks/memory.py --one Flow-GRPO 10` measured 690 resident, of DiffusionNFT 687 and of AWM 683: a plan is
12 % short, of holes in glibc's heap. With `MALLOC_MMAP_THRESHOLD_=65536` it gives each tensor above 64 KiB pages of its
own and takes them back: 611, 609 and 609 are measured, and a test holds a plan to 15 % of that, but a run is much
slower so. Holes grow with tensors: of `limner train motion --steps 1 --evaluation.prompts ""` a plan says 1.28
GiB, its summary 1.38 with that variable, and 2.8 to 3.0 without.

| checkpoint | run | path | encode | rollout | decode | update | smallest card |
|---|---|--:|--:|--:|--:|--:|--:|
"""
BELOW = """
GiB, at the micro-batch of the recipe. Below, the largest micro-batch of 8, 4, 2 and 1, not above the recipe's, that
fits: its peak, in GiB, and the phase of the peak.

"""


def main() -> None:
    """Predict each, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/memory.md"))
    options = parser.parse_args()
    first, second = [], []
    for name, (base, keys) in CONFIGS.items():
        config = override(recipe(base), keys)
        found = sizes(config)
        first.append(row(name, config, found))
        second.append(f"| {name} | {' | '.join(fitted(config, found, card) for card in CARDS)} |")
        print(first[-1], second[-1], sep="\n", flush=True)
    head = f"| checkpoint | {' | '.join(f'{card} GB' for card in CARDS)} |\n|---|{'---|' * len(CARDS)}"
    write_text(options.out, PAGE + "\n".join(first) + "\n" + BELOW + "\n".join([head, *second]) + "\n")


def row(name: str, config: RunConfig, found: Sizes) -> str:
    """Return the peaks of all phases."""
    work = workload(config)
    parts = phases(found, work, CARD)
    top = peak(parts).peak
    run = (
        f"{work.groups} x {work.group} samples, {work.recorded} of {work.steps} steps kept, "
        f"{' x '.join(map(str, found.shape))}, micro-batch {work.micro_batch}"
    )
    numbers = [parts[1].bytes["path"], *(part.peak for part in parts)]
    card = next((f"{card} GB" for card in CARDS if top <= room(card)), f"> {CARDS[-1]} GB")
    return f"| {name} | {run} | {' | '.join(f'{number / GIB:.1f}' for number in numbers)} | {card} |"


def fitted(config: RunConfig, found: Sizes, card: int) -> str:
    """Return the largest micro-batch that fits, with its peak; or by how much the smallest does not."""
    size = min(8, config.micro_batch)
    while size > 1 and _peak(config, found, size).peak > room(card):
        size //= 2
    top = _peak(config, found, size)
    said = f"{top.peak / GIB:.1f} in {top.name}"
    return f"{size}: {said}" if top.peak <= room(card) else f"no ({said})"


def _peak(config: RunConfig, found: Sizes, micro_batch: int) -> Phase:
    return peak(phases(found, workload(override(config, {"micro_batch": micro_batch})), CARD))


if __name__ == "__main__":
    main()
