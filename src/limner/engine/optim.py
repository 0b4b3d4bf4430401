"""The optimizer step: AdamW, a learning rate that warms up and may decay, clipped and finite gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from limner.core.errors import RunError
from limner.core.team import ALONE, Team

Schedule = Literal["constant", "cosine"]


def lr_factor(step: int, *, warmup: int, schedule: Schedule, steps: int) -> float:
    """Return the learning rate of `step` (0 is the first of `steps`) over its peak.

    (step + 1) / warmup while that is below 1; then 1, or the cosine (1 + cos(pi u)) / 2 with u = (step - warmup) /
    (steps - warmup), capped at 1.
    """
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    return 0.5 + 0.5 * math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup)))


class Stepper:
    """Sums gradients, over the team too, and steps; one whose loss or gradient is not finite is skipped and counted.

    `steps` is the number of optimizer steps of the whole run, for the cosine; skipped ones count in it.
    `max_grad_norm` is the cap of the global 2-norm; inf: none.
    """

    max_skipped_in_row = 5

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        *,
        lr: float,
        steps: int,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        warmup: int = 0,
        schedule: Schedule = "constant",
        max_grad_norm: float = 1.0,
        team: Team = ALONE,
    ) -> None:
        self.lr, self.steps, self.warmup, self.schedule = lr, steps, warmup, schedule
        self.max_grad_norm, self.team = max_grad_norm, team
        self.parameters = list(parameters.values())
        self.optimizer = torch.optim.AdamW(self.parameters, lr, betas, weight_decay=weight_decay, foreach=True)
        self.num_steps = 0
        self.num_skipped = 0
        self.skipped_in_row = 0
        self.trouble = ""

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of `loss`; once a loss of this step is not finite, do nothing."""
        if not self.trouble and not bool(loss.isfinite()):
            self.trouble = f"the loss is {loss.item()}"
        if not self.trouble:
            loss.backward()

    def step(self) -> float | None:
        """Clip, update and clear the gradients; return their norm before the clip, or None for a skipped step.

        Raises RunError after `max_skipped_in_row` skipped steps in a row.
        """
        norm = math.nan
        if self.team.sum(torch.tensor(float(bool(self.trouble)))) and not self.trouble:
            self.trouble = "the loss of another process is not finite"
        if not self.trouble:
            self.team.sum_gradients(self.parameters)
            norm = nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm).item()
            self.trouble = "" if math.isfinite(norm) else f"the gradient norm is {norm}"
        trouble, self.trouble = self.trouble, ""
        if not trouble:
            self._update()
        self.optimizer.zero_grad()
        self.num_steps += 1
        self.num_skipped += bool(trouble)
        self.skipped_in_row = self.skipped_in_row + 1 if trouble else 0
        if self.skipped_in_row >= self.max_skipped_in_row:
            raise RunError(
                f"{self.skipped_in_row} optimizer steps in a row could not be made, up to step {self.num_steps - 1}: "
                f"{trouble}; lower the learning rate (now {self.lr:g}) or look for the cause in the reward"
            )
        return None if trouble else norm

    def lr_now(self) -> float:
        """Return the learning rate of the coming step."""
        return self.lr * lr_factor(self.num_steps, warmup=self.warmup, schedule=self.schedule, steps=self.steps)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps (tensors not copied); call it between steps."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "num_steps": self.num_steps,
            "num_skipped": self.num_skipped,
            "skipped_in_row": self.skipped_in_row,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Put back what `state` returned."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.num_steps, self.num_skipped = state["num_steps"], state["num_skipped"]
        self.skipped_in_row = state["skipped_in_row"]

    def _update(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr_now()
        self.optimizer.step()
