"""Pictures that a prompt brings along (`Prompt.inputs`): which a model takes, and which evaluation sees which."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from limner.core.errors import UserError
from limner.core.paths import path_of
from limner.core.picture import decoded
from limner.core.types import Prompt


@runtime_checkable
class Taking(Protocol):
    """A model that is given more than texts."""

    @property
    def takes(self) -> Sequence[str]:
        """The names of what each prompt brings along, such as "image"."""
        ...


def require_inputs(model: object, prompts: Sequence[Prompt]) -> None:
    """Raise UserError unless each prompt brings along what `model` takes, nothing else, and pictures can be read."""
    takes = tuple(model.takes) if isinstance(model, Taking) else ()
    for prompt in prompts:
        for name in takes:
            _place(prompt, name)
        other = [name for name in prompt.inputs if name not in takes]
        if other:
            known = f"only {', '.join(takes)}" if takes else "texts alone"
            raise UserError(f"prompt {prompt.text!r:.80} brings along {other[0]!r}, and this model takes {known}")
    for place in dict.fromkeys(each for prompt in prompts for each in prompt.inputs.values()):
        decoded(path_of(place, "input"))


def pictures(prompts: Sequence[Prompt], name: str) -> list[Image.Image]:
    """Return the picture of that name that each prompt brings along."""
    return [decoded(_place(prompt, name)) for prompt in prompts]


def _place(prompt: Prompt, name: str) -> Path:
    if name not in prompt.inputs:
        raise UserError(
            f"prompt {prompt.text!r:.80} brings no {name}, which this model is given beside the text; write prompts as "
            f'.jsonl, {{"prompt": ..., "inputs": {{"{name}": "first.png"}}}}'
        )
    return path_of(prompt.inputs[name], name)


def given_rows(rows: int, prompt_index: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
    """Return whose pictures each evaluation sees, of a condition of `rows`, the last of which is of the empty prompt.

    Guidance leads away from an empty text, not from what is given. It asks about prompts and then, in the same order,
    about the empty one (`policies.guided.with_empty`), which so has the pictures of half a batch before.
    """
    return torch.where(prompt_index == rows - 1, prompt_index.roll(len(prompt_index) // 2), prompt_index)


def rows_of(
    condition: Mapping[str, Tensor], prompt_index: Int[Tensor, " batch"], given: Collection[str], beside: bool
) -> dict[str, Tensor]:
    """Return what each evaluation reads of a condition: of the names `given` whose pictures it sees, else its own row.

    Where texts were read `beside` pictures (`read_beside`), all is of the prompt whose picture an evaluation sees, and
    one about the empty prompt reads the negative text there.
    """
    rows = len(next(iter(condition.values())))
    whose = given_rows(rows, prompt_index) if given else prompt_index
    place = (prompt_index == rows - 1).long()
    found = {}
    for name, each in condition.items():
        row = (whose if beside or name in given else prompt_index).to(each.device)
        found[name] = each[row, place.to(each.device)] if beside and name not in given else each[row]
    return found


def read_beside(
    prompts: Sequence[Prompt],
    read: Callable[[list[str], list[Image.Image]], dict[str, Tensor]],
    dtype: torch.dtype,
    device: torch.device,
    negative_prompt: str,
) -> dict[str, Tensor]:
    """Return what `read` makes of each prompt beside its `image`, and of the negative one there: [prompts + 1, 2, ...].

    What guidance leads away from is so of each prompt. The last row is of no picture, and zeros. Equal prompts are read
    once, each by itself. Numbers are brought to `dtype`; masks stay what they are.
    """
    unique = list(dict.fromkeys(prompt.asked for prompt in prompts))
    seen = pictures(unique, "image")
    told, negative = read([prompt.text for prompt in unique], seen), read([negative_prompt] * len(unique), seen)
    rows = torch.tensor([unique.index(prompt.asked) for prompt in prompts], dtype=torch.long)
    both = {name: torch.stack([each, negative[name]], dim=1) for name, each in told.items()}
    joined = {name: torch.cat([each[rows], each.new_zeros(1, *each.shape[1:])]) for name, each in both.items()}
    return {name: each.to(device, dtype if each.is_floating_point() else each.dtype) for name, each in joined.items()}
