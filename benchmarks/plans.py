"""Which published checkpoints fit which card, as `limner plan` predicts it; nothing is measured or downloaded.

    python benchmarks/plans.py [--out docs/memory.md]

Each is trained as `CONFIGS` say, with the settings that `--card` takes of a card. Writes the page.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from limner.core.errors import UserError
from limner.machine.cost import Sizes, sizes
from limner.machine.fitting import way_to_fit
from limner.machine.known import remembering
from limner.machine.memory import Place, peak, phases
from limner.machine.plan import GIB, plan, room
from limner.machine.rate import CARDS as RATES
from limner.machine.rate import SHARE
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
`limner plan`, from configurations alone, and times follow from a rate that is assumed.

```bash
limner plan sd35_medium --card 24
limner train sd35_medium --card 24 --reward pickscore
```

A run's own code (encoding, a step of sampling, the loss and its backward pass) is carried out on tensors that have a
shape and no numbers; what is alive at once is added up. On a card stay the networks (LoRA's frozen base in bfloat16, or
in the codes of `model.quantize`), what is trained and Adam's two numbers for each of it, and the decoder in float32;
text encoders leave when they have encoded, and with `--model.encoders cpu` they never come. So

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
GiB, as the recipe is. Below, for each card, what `limner train --card N` sets (`machine/fitting.py`, the cheapest that
leaves it the same run), the peak that it leads to, in GiB, and its phase, and how long an iteration then takes, and all
that is drawn to evaluate: seconds of one such card, **assumed**, not measured, at {share:.0%} of the published dense
peak of {cards}, networks in the run's precision and decoders in float32. Judges, encoding, what crosses over
(`model.offload`, `sampler.keep`), unpacking codes (`model.quantize`), and prompts that are encoded on the CPU are not
counted. `limner plan RECIPE --card N --tflops RATE --price PER_HOUR` says it for another rate, and what it costs.

| checkpoint | card | set by `--card` | peak | rollout | decode | update | evaluation, whole run |
|---|--:|---|---|--:|--:|--:|--:|
"""


def main() -> None:
    """Predict each, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/memory.md"))
    options = parser.parse_args()
    first, second = [], []
    for name, (base, keys) in CONFIGS.items():
        config = override(recipe(base), keys)
        with remembering():
            first.append(row(name, config, sizes(config)))
            second += [fitted(name, config, card) for card in CARDS]
        print(first[-1], *second[-len(CARDS) :], sep="\n", flush=True)
    known = ", ".join(f"{each.name} ({size} GB)" for size, each in RATES.items())
    below = BELOW.format(share=SHARE, cards=known)
    write_text(options.out, PAGE + "\n".join(first) + "\n" + below + "\n".join(second) + "\n")


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


def fitted(name: str, config: RunConfig, card: int) -> str:
    """Return what a run is set to on a card, with its peak, and seconds by phase; or why no setting makes it fit."""
    try:
        way = way_to_fit(config, card)
    except UserError as error:
        return f"| {name} | {card} GB | no: {str(error).partition(': ')[2]} | | | | | |"
    found = plan(config if way is None else override(config, way.keys), card)
    flags = "as it is" if way is None else f"`{way.flags}`"
    seconds, top = found.seconds, found.peak
    each = (seconds.rollout, seconds.decode, seconds.update, seconds.evaluation)
    numbers = " | ".join(f"{number:,.0f}" if number >= 10 else f"{number:.2g}" for number in each)
    return f"| {name} | {card} GB | {flags} | {top.peak / GIB:.1f} in {top.name} | {numbers} |"


if __name__ == "__main__":
    main()
