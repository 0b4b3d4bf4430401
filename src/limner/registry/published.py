"""`limner models`: the published checkpoints of every kind, with what a person asks before taking one."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from limner.models.published import Published
from limner.registry.find import find
from limner.registry.names import ADAPTERS, MODELS, PUBLISHED

CARDS = (12, 16, 24, 48, 80)
"""GB of memory of usual cards."""
SHARE = 0.6
"""Of a card, for the frozen network: the rest is for activations, what is trained, and the decoder."""
BYTES = 2
"""Of a weight in bfloat16."""

PAGE = """# Models

Kinds of model that limner trains, and published checkpoints of each. `limner models` prints this page, which is
generated; `tests/registry/test_published.py` counts the parameters as diffusers and transformers make them. A folder
or hub id needs no kind: its `model_index.json` tells it.

Weights (network, autoencoder, text encoders, what sees a first frame) are those in bfloat16. A *class* is the smallest
card of 12, 16, 24, 48 and 80 GB of whose memory the network's weights take at most 60 %, for LoRA, with encoders that
leave the card when they have encoded: predicted by that arithmetic, measured by nobody. What a run takes, `limner
check` measures in its dry run. A latent is of the stated resolution, height x width: channels (x frames) x height x
width.
"""

OWN = frozenset({"tokens", "gan"})
"""Kinds whose class no library has."""
OWN_KIND = "No published checkpoint is of this kind: `limner pretrain` makes one."
NO_FACTS = "Checkpoints are those that this class loads; facts of none are listed here, and `limner plan` knows none."


def published() -> dict[str, tuple[str, Published]]:
    """Return the kind and the facts of every published checkpoint, by its short name."""
    return {name: (kind, each) for kind in PUBLISHED for name, each in find(PUBLISHED, "model kind", kind).items()}


def memory_class(checkpoint: Published) -> int | None:
    """Return the smallest of the usual cards, in GB, that the network leaves enough of; None if none of them."""
    weights = BYTES * checkpoint.predicting / 1e9
    return next((card for card in CARDS if weights <= SHARE * card), None)


def page() -> str:
    """Return docs/models.md."""
    return "\n".join([PAGE, *_kinds()]).rstrip() + "\n"


def _kinds() -> Iterator[str]:
    for kind in MODELS:
        settings = find(MODELS, "model kind", kind)
        about, adapter = inspect.cleandoc(settings.__doc__ or ""), find(ADAPTERS, "model kind", kind)
        targets = ", ".join(f"`{each}`" for each in adapter.lora_targets)
        yield f"## `{kind}`\n\n{about}\n"
        served = ", ".join(f"`{each}`" for each in settings.serves)
        yield f"Serves {served}. LoRA adapts {targets} unless told otherwise{_read(adapter)}.\n"
        if kind not in PUBLISHED:
            yield f"{OWN_KIND if kind in OWN else NO_FACTS}\n"
            continue
        yield "| checkpoint | licence | predicts | resolution | latent | parameters | weights | class | recipe |"
        yield "|---|---|---|--:|--:|--:|--:|--:|---|"
        yield from (_row(each) for each in find(PUBLISHED, "model kind", kind).values())
        yield ""


def _read(adapter: Any) -> str:
    """Return how a pipeline that has no `load_lora_weights` reads an exported LoRA; "" of one that has it."""
    from limner.models.lora import OF_PIPELINE

    form = vars(adapter).get("lora", OF_PIPELINE)
    return "" if form.read == OF_PIPELINE.read else f", and is read by `{form.read.format(place='FOLDER')}`"


def _row(each: Published) -> str:
    beside = (*each.encoders, *([each.sight] if each.sight else []))
    parts = (each.predicting, each.autoencoder.parameters, *(part.parameters for part in beside))
    card = memory_class(each)
    weights = " + ".join(f"{BYTES * part / 2**30:.1f}" for part in parts)
    cells = (
        f"[{each.hub}](https://huggingface.co/{each.hub})",
        each.licence,
        each.prediction,
        " x ".join(str(side * each.cell) for side in each.latent[-2:]),
        " x ".join(map(str, each.latent)),
        f"{each.experts} x " * (each.experts > 1) + f"{each.network.parameters / 1e9:.2f} B",
        f"{weights} GiB",
        f"{card} GB" if card else f"> {CARDS[-1]} GB",
        f"`{each.recipe}`" if each.recipe else "",
    )
    return f"| {' | '.join(cells)} |"
