"""Supervised training that several processes share, and that goes on where it stopped."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeAlias

import torch
import yaml
from torch import Tensor, nn

from limner.core.errors import UserError
from limner.core.paths import text_of
from limner.core.plain import plain
from limner.core.team import Team
from limner.report.file import write_text

Log: TypeAlias = Callable[[Mapping[str, Any]], None]
"""Keeps a line of what is measured on the way."""


class Fit:
    """AdamW with warm-up and cosine decay, an average of the weights, and a checkpoint every few minutes.

    Of the `matrices` among the weights steps are orthogonalised (Muon), as long as AdamW's are.

    Source: Muon, Liu et al., arXiv:2502.16982, section 2.2.
    """

    def __init__(
        self,
        module: nn.Module,
        lr: float,
        weight_decay: float,
        steps: int,
        warmup: int,
        ema: float,
        team: Team,
        betas: tuple[float, float] = (0.9, 0.99),
        matrices: Sequence[Tensor] = (),
    ) -> None:
        self.module, self.num_steps, self.ema, self.start, self.team = module, steps, ema, time.monotonic(), team
        self.parameters: list[Tensor] = list(module.parameters())
        self.average = [p.detach().clone() for p in self.parameters]
        orthogonal = {id(p) for p in matrices}
        rest = [p for p in self.parameters if id(p) not in orthogonal]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(rest, lr=lr, betas=betas, weight_decay=weight_decay)
        ]
        if matrices:
            muon = torch.optim.Muon(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
            self.optimizers.append(muon)

        def rate(step: int) -> float:
            return min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * min(1.0, step / steps)))

        self.schedules = [torch.optim.lr_scheduler.LambdaLR(each, rate) for each in self.optimizers]
        self.step = 0

    def steps(self, path: Path, checkpoint_seconds: float, beside: Sequence[Self] = ()) -> Iterator[int]:
        """Count the steps that are left, from the checkpoint at `path` if there is one, and keep it fresh.

        Others that are trained `beside` it, a step for each of its own, are kept in the same checkpoint.
        """
        if path.exists():
            state = torch.load(path, weights_only=True)
            for fit, its in zip((self, *beside), (state, *state.get("beside", ())), strict=True):
                fit._load(its)
        saved = time.monotonic()
        while self.step < self.num_steps:
            yield self.step
            for fit in (self, *beside):
                fit.step += 1
            due = self.step == self.num_steps or time.monotonic() - saved > checkpoint_seconds
            if due and self.team.rank == 0:
                saved = time.monotonic()
                save(path, self._state() | {"beside": [fit._state() for fit in beside]})

    def _state(self) -> dict[str, Any]:
        return {
            "module": self.module.state_dict(),
            "optimizers": [each.state_dict() for each in self.optimizers],
            "schedules": [each.state_dict() for each in self.schedules],
            "average": self.average,
            "step": self.step,
        }

    def _load(self, state: Mapping[str, Any]) -> None:
        self.module.load_state_dict(state["module"])
        for own, its in zip(self.optimizers, state["optimizers"], strict=True):
            own.load_state_dict(its)
        for schedule, its in zip(self.schedules, state["schedules"], strict=True):
            schedule.load_state_dict(its)
        self.average, self.step = state["average"], state["step"]

    def update(self, loss: Tensor) -> None:
        for each in self.optimizers:
            each.zero_grad()
        (loss / self.team.size).backward()
        self.team.sum_gradients(self.parameters)
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for each in self.optimizers:
            each.step()
        for schedule in self.schedules:
            schedule.step()
        decay = min(self.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - decay)

    def use_average(self) -> None:
        """Put the averaged weights in place of the last ones."""
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, self.average)

    def seconds(self) -> dict[str, float]:
        return {"seconds": time.monotonic() - self.start}


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write atomically."""
    torch.save(dict(state), path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)


def require_same(folder: Path, asked: Mapping[str, Any], free: Collection[str]) -> None:
    """Raise UserError if `folder` was begun with other settings than `asked`, whose `free` ones may change.

    Its parts would not fit together. So it does for a folder of something else, as a run is.
    """
    path = folder / "config.yaml"
    if not path.exists():
        return
    earlier = plain(text_of(path, str(path)), str(path))
    if not isinstance(earlier, dict) or len(earlier.keys() & asked.keys()) < len(asked) / 2:
        raise UserError(f"{path} is of something else; choose another folder with --out")
    for name, value in asked.items():
        if name not in free and earlier.get(name, value) != value:
            raise UserError(
                f"{folder} was begun with {name} {earlier[name]}, not {value}: go on with the same settings, or "
                "choose another folder with --out"
            )


def begin(folder: Path, asked: Mapping[str, Any]) -> Log:
    """Make `folder` with the settings that were `asked`, and return what writes a line of its log, and shows it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "config.yaml", yaml.safe_dump(dict(asked), sort_keys=False))

    def log(row: Mapping[str, Any]) -> None:
        with open(folder / "log.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")
        print(" ".join(f"{k} {v:.5g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)

    return log
