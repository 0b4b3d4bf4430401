"""The model card beside an exported result: what it is, how it was measured, how plain diffusers loads it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from huggingface_hub import ModelCardData

from limner.core.errors import UserError
from limner.report.data import Interval, Kind, Row
from limner.report.file import write_text
from limner.report.text import ABSENT, bounds, difference, quantity

PLACE = "PATH/TO/THIS/FOLDER"
"""Stands for the folder that a card lies in."""
BY_PIPELINE: tuple[Sequence[str], str] = ((), "pipe.load_lora_weights({place})")
"""Imports, and the line by which most pipelines read a LoRA."""
MADE = "Post-trained with reinforcement learning by limner"
"""What every card says."""


@runtime_checkable
class OwnUse(Protocol):
    """A model for which its libraries have no pipeline of one class."""

    def use(self, base: str, place: str, whole: bool, prompt: str, call: Mapping[str, Any]) -> Sequence[str]:
        """Return the lines of Python that draw `image`, a PIL picture.

        `base` and `place` are expressions, of the base's folder and of what was exported; `call` is what is asked
        beside the prompt.
        """
        ...


@runtime_checkable
class OwnLora(Protocol):
    """A model whose pipeline may read its LoRA otherwise than by `load_lora_weights`."""

    @property
    def lora_use(self) -> tuple[Sequence[str], str]:
        """Imports, and the line by which `pipe` reads a LoRA; in it `{place}` stands for the folder's expression."""
        ...


@runtime_checkable
class Telling(Protocol):
    """Settings of a model whose pipeline is told of some of them by no argument of a call."""

    def told(self, sampler: Mapping[str, Any]) -> Sequence[str]:
        """Return the lines of Python that tell `pipe`, given what the sampler asks of a pipeline."""
        ...


@dataclass(frozen=True)
class Card:
    """What the card says.

    `base` is a hub id, a folder or "". `licence` is named as the Hub names it; "": that of the base. `place` is where
    the result can be loaded from. `sampler` is what it was measured with, by title. `pipeline` is the diffusers class,
    `load` the arguments of its `from_pretrained` beside the folder, `call` those of a call beside the prompt. `trained`
    is what learnt, `whole` whether it is no update of the base, `moves` whether it shows clips. `bundled` says where
    limner itself keeps the base, as MODULE:NAME; "" means that diffusers knows it by `base`. `own` says how a model
    without a pipeline is used.
    """

    name: str
    base: str
    licence: str
    pipeline: str
    sampler: Mapping[str, str]
    reward: str
    algorithm: str
    trained: str
    whole: bool = False
    moves: bool = False
    load: Mapping[str, Any] = field(default_factory=dict)
    call: Mapping[str, Any] = field(default_factory=dict)
    rows: Sequence[Row] = ()
    example: str = "your prompt"
    networks: Mapping[str, str] = field(default_factory=dict)
    """Of diffusers' class each, what stands in a folder of whole weights: it takes the place of the base's own."""
    bundled: str = ""
    place: str = PLACE
    fused: Sequence[tuple[str, float]] = ()
    """LoRAs that the base has, by file name, and their weights."""
    own: OwnUse | None = None
    inputs: Sequence[str] = ()
    """Pictures that the pipeline is given beside the prompt, by its own names."""
    lora: tuple[Sequence[str], str] = BY_PIPELINE
    """Imports, and the line by which `pipe` reads the LoRA."""
    told: Sequence[str] = ()
    """Lines that tell `pipe` what no argument does."""


def require_own(folder: Path) -> None:
    """Raise UserError for a folder that holds something, and no card of ours: what is there is not written over."""
    card = folder / "README.md"
    there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if there and not (card.is_file() and MADE in card.read_text(encoding="utf-8", errors="replace")):
        raise UserError(f"{folder} holds {there[0]} and is no earlier export; choose another folder with --out")


def write_card(folder: Path, card: Card) -> None:
    """Write FOLDER/README.md."""
    write_text(folder / "README.md", model_card(card))


def model_card(card: Card) -> str:
    """Return the card as markdown with a header that model hubs read."""
    negative = f"`{_code(card.call['negative_prompt'])}`" if "negative_prompt" in card.call else "none"
    facts = (
        ("Base", f"`{_code(card.base)}`" if card.base else "a pipeline in memory"),
        ("Licence", card.licence or "that of the base"), ("Trained part", card.trained),
        ("Training reward", f"`{_code(card.reward)}`"), ("Algorithm", card.algorithm),
        *card.sampler.items(), ("Negative prompt", negative),
    )  # fmt: skip
    table = "\n".join(f"| {name} | {_cell(value)} |" for name, value in facts)
    parts = [
        _header(card),
        f"# {card.name}\n",
        f"{MADE}{f', from `{_code(card.base)}`' * bool(card.base)}.\n",
        f"| | |\n|---|---|\n{table}\n",
        f"## Use\n\n```python\n{_usage(card)}\n```\n",
        _evaluation(card.rows),
    ]
    return "\n".join(part for part in parts if part)


def _header(card: Card) -> str:
    """Return what the Hub reads: only ids and licences that it knows, and a base only if it has it."""
    library = "diffusers" if card.own is None or card.pipeline.endswith("Pipeline") else "transformers"
    task = f"{'image' if card.inputs else 'text'}-to-{'video' if card.moves else 'image'}"
    tags = [task, library, "reinforcement-learning", "limner", *([] if card.whole else ["lora"])]
    known = _is_on_hub(card.base)
    said = ModelCardData(
        base_model=card.base if known else None,
        base_model_relation=("finetune" if card.whole else "adapter") if known else None,
        license=card.licence or "other",
        license_name=None if card.licence else "that-of-the-base",
        license_link=f"https://huggingface.co/{card.base}" if known and not card.licence else None,
        library_name=library,
        pipeline_tag=task,
        tags=tags,
    )
    return f"---\n{said.to_yaml()}\n---\n"


def _is_on_hub(base: str) -> bool:
    """Tell whether a base has the form of a hub id, OWNER/NAME, and is no folder here."""
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", base) is not None and not Path(base).exists()


def _usage(card: Card) -> str:
    load = "".join(f", {name}={value!r}" for name, value in card.load.items())
    replaced = card.networks if card.whole else {}
    imports = ", ".join([card.pipeline, *dict.fromkeys(replaced.values())])
    lines = [f"from diffusers import {imports}"] if card.own is None else []
    base, place = repr(card.base or "PATH/TO/THE/BASE"), json.dumps(card.place)
    if card.bundled and (card.own or replaced or not card.whole):
        module, base = card.bundled.split(":")
        lines.append(f"from {module} import {base}")
    if card.inputs:
        lines.append("from diffusers.utils import load_image")
    if not card.whole:
        lines += card.lora[0]
    if card.own is not None:
        return "\n".join([*lines, *card.own.use(base, place, card.whole, card.example, card.call)])
    lines.append("")
    if card.whole and not replaced:
        lines.append(f"pipe = {card.pipeline}.from_pretrained({place}{load})")
    else:
        for i, (name, kind) in enumerate(replaced.items()):  # the first in the folder itself, others in their own
            lines.append(f"{name} = {kind}.from_pretrained({place}{f', subfolder={name!r}' if i else ''})")
            load = f", {name}={name}{load}"
        lines.append(f"pipe = {card.pipeline}.from_pretrained({base}{load})")
    if not card.whole:
        for name, weight in card.fused:
            lines += [f'pipe.load_lora_weights("PATH/TO/{name}")', f"pipe.fuse_lora(lora_scale={weight:g})"]
            lines.append("pipe.unload_lora_weights()")
        lines.append(card.lora[1].format(place=place))
    lines += card.told
    arguments = "".join(f', {name}=load_image("{name}.png")' for name in card.inputs)
    arguments += "".join(f", {name}={value!r}" for name, value in card.call.items())
    name, shown = ("frames", "frames[0]") if card.moves else ("image", "images[0]")
    # By name: pipelines that also edit, as FLUX.2's, take a picture first.
    lines.append(f"{name} = pipe(prompt={card.example!r}{arguments}).{shown}")
    return "\n".join(lines)


def _evaluation(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    lines = [
        f"| {_cell(row.label)} | {_interval(row.before, row.kind)} | {_interval(row.after, row.kind)} "
        f"| {f'{difference(row.change.value, row.kind)} ({bounds(row.change, row.kind)})' if row.change else ABSENT} |"
        for row in rows
    ]
    return (
        "## Evaluation\n\n| Measure | Before | After | Change |\n|---|--:|--:|--:|\n" + "\n".join(lines) + "\n\n"
        "In brackets: 95 % intervals over prompts (Student's t). Change pairs equal prompts and seeds.\n"
    )


def _interval(interval: Interval | None, kind: Kind) -> str:
    return f"{quantity(interval.value, kind)} ({bounds(interval, kind)})" if interval else ABSENT


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _code(text: str) -> str:
    return " ".join(text.replace("`", "'").split())
