"""The optimizer step: AdamW, a learning rate that warms up and may decay, clipped and finite gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from limner.core.errors import RunError, UserError
from limner.core.team import ALONE, Team
from limner.engine.shards import cut_like, whole

Schedule = Literal["constant", "cosine", "linear"]
Kind = Literal["adamw", "adamw8bit"]
MOMENT_BYTES: Mapping[Kind, float] = {"adamw": 8.0, "adamw8bit": 2 + 8 / 256}
"""What AdamW keeps of each trained number: two of 4 bytes, or two of 1 byte, and a scale of each for every 256."""
SMALLEST, LARGEST, PATIENCE = 1.0, 2.0**24, 2000
"""Of a loss's scale: its bounds, and how many steps in a row must do without an overflow until it is doubled."""


@dataclass
class LossScale:
    """What a loss is multiplied by before its backward pass in float16, where gradients below 6e-8 would be 0.

    Halved, and the step skipped, where a gradient overflows; doubled after `PATIENCE` steps that did not. Being a power
    of two it changes no digit of what it does not save.
    Source: Micikevicius et al., arXiv 1710.03740, section 3.2; the numbers are those of torch's GradScaler.
    """

    value: float = 65_536.0
    fine: int = 0
    """Steps since the last change."""

    @property
    def may_fall(self) -> bool:
        """Whether an overflow can be the scale's fault."""
        return self.value > SMALLEST

    def update(self, overflow: bool) -> None:
        """Follow a step."""
        self.fine = 0 if overflow else self.fine + 1
        if overflow:
            self.value = max(SMALLEST, self.value / 2)
        elif self.fine == PATIENCE:
            self.value, self.fine = min(LARGEST, 2 * self.value), 0


def lr_factor(step: int, *, warmup: int, schedule: Schedule, steps: int) -> float:
    """Return the learning rate of `step` (0 is the first of `steps`) over its peak.

    (step + 1) / warmup while that is below 1; then 1, the line 1 - u, or the cosine (1 + cos(pi u)) / 2, with
    u = (step - warmup) / (steps - warmup), capped at 1.
    """
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    share = min(1.0, (step - warmup) / max(1, steps - warmup))
    return 1 - share if schedule == "linear" else 0.5 + 0.5 * math.cos(math.pi * share)


def adamw(
    parameters: Sequence[nn.Parameter], kind: Kind, lr: float, betas: tuple[float, float], weight_decay: float
) -> torch.optim.Optimizer:
    """Return AdamW; of the kind "adamw8bit" with moments of 8 bits, in blocks of 256 that have a scale each.

    Tensors of fewer than 4,096 numbers keep 32 bits there. Raises UserError if its package is missing.
    Source: Dettmers et al., arXiv 2110.02861, as bitsandbytes has it, on CPU and CUDA.
    """
    if kind == "adamw":
        return torch.optim.AdamW(parameters, lr, betas, weight_decay=weight_decay, foreach=True)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise UserError("optimizer.kind adamw8bit needs bitsandbytes: pip install 'limner[8bit]'") from error
    return AdamW8bit(parameters, lr=lr, betas=betas, weight_decay=weight_decay)


class Stepper:
    """Sums gradients, over the team too, and steps; one whose loss or gradient is not finite is skipped and counted.

    `steps` is the number of optimizer steps of the whole run, for what falls; skipped ones count in it.
    `max_grad_norm` is the cap of the global 2-norm; inf: none. With a `scale` losses are scaled; while it may fall, a
    skipped step is no sign that the run is lost.
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
        scale: LossScale | None = None,
        kind: Kind = "adamw",
    ) -> None:
        self.lr, self.steps, self.warmup, self.schedule = lr, steps, warmup, schedule
        self.max_grad_norm, self.team, self.scale = max_grad_norm, team, scale
        self.parameters = list(parameters.values())
        self.optimizer = adamw(self.parameters, kind, lr, betas, weight_decay)
        self.num_steps = 0
        self.num_skipped = 0
        self.skipped_in_row = 0
        self.losses: list[Tensor] = []
        """Those of this step, which are looked at when it ends: to look at one is to wait for it."""

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of `loss`."""
        self.losses.append(loss.detach())
        self.team.backward(loss if self.scale is None else loss * self.scale.value)

    def step(self) -> float | None:
        """Clip, update and clear the gradients; return their norm before the clip, or None for a skipped step.

        Raises RunError after `max_skipped_in_row` skipped steps in a row.
        """
        norm, excused, trouble = math.nan, False, self._trouble()
        if self.team.sum(torch.tensor(float(bool(trouble)))) and not trouble:
            trouble = "the loss of another process is not finite"
        if not trouble:
            self.team.sum_gradients(self.parameters)
            self._unscale()
            norm = self._clip()
            trouble = "" if math.isfinite(norm) else f"the gradient norm is {norm}"
            excused = self.scale is not None and self.scale.may_fall
            if self.scale is not None:
                self.scale.update(overflow=bool(trouble))
        if not trouble:
            self._update()
        self.optimizer.zero_grad()
        self.num_steps += 1
        self.num_skipped += bool(trouble)
        self.skipped_in_row = self.skipped_in_row + (not excused) if trouble else 0
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
        } | ({} if self.scale is None else {"scale": asdict(self.scale)})

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Put back what `state` returned."""
        self.optimizer.load_state_dict(self._cut(state["optimizer"]))
        self.num_steps, self.num_skipped = state["num_steps"], state["num_skipped"]
        self.skipped_in_row = state["skipped_in_row"]
        if self.scale is not None:
            self.scale = LossScale(**state["scale"])

    def _cut(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return an optimizer's state with the moments of parameters that are spread cut as these are."""
        cut = {
            place: {
                name: cut_like(value, self.parameters[place]) if torch.is_tensor(value) and value.ndim else value
                for name, value in moments.items()
            }
            for place, moments in state["state"].items()
        }
        return {**state, "state": cut}

    def _trouble(self) -> str:
        """Say what is wrong with the losses of this step, and forget them."""
        losses, self.losses = self.losses, []
        wrong = [each for each in (torch.stack(losses).tolist() if losses else []) if not math.isfinite(each)]
        return f"the loss is {wrong[0]}" if wrong else ""

    def _clip(self) -> float:
        """Bring gradients to a common norm of at most `max_grad_norm`; return what it was."""
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        norm = whole(nn.utils.get_total_norm(gradients))
        nn.utils.clip_grads_with_norm_(self.parameters, self.max_grad_norm, norm)
        return norm.item()

    def _unscale(self) -> None:
        """Divide gradients by what the loss was multiplied by."""
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        if self.scale is not None and gradients:
            torch._foreach_div_(gradients, self.scale.value)

    def _update(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr_now()
        self.optimizer.step()
