"""Two processes that share the tokens of each pass predict what one does, and their gradients add up to one's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import nn

from limner.core.errors import UserError
from limner.core.protocols import Denoiser
from limner.core.team import Crew, Team
from limner.engine.device import in_crews, join
from limner.engine.full import full
from limner.engine.lora import lora
from limner.engine.precision import Precision, checkpoint_activations
from limner.engine.processes import together
from limner.engine.weights import Weights
from limner.models.context import share
from limner.models.sd3.adapter import SD3
from limner.models.wan.adapter import Wan
from models.test_contract import PROMPTS, draw, two_experts
from piped_cases import CASES as PIPED

MODELS: Mapping[str, Callable[[], Denoiser]] = {
    "wan": Wan.tiny,
    "experts": two_experts,
    **{name: PIPED[name].model for name in ("flux", "flux2", "flux2_klein", "qwen_image", "ltx", "hunyuan_video")},
    **{name: PIPED[name].model for name in ("flux_kontext", "qwen_image_edit", "qwen_image_edit_plus")},
}
WAYS: Mapping[str, Callable[[Denoiser, Precision], Weights]] = {
    "lora": lambda model, precision: lora(
        model.networks, rank=2, alpha=4, targets=model.lora_targets, seed=3, old=False, precision=precision
    ),
    "full": lambda model, precision: full(model.networks, reference=True, old=False),
}


def learnt(name: str, way: str, dtype: Any, team: Team) -> dict[str, Any]:
    """Return predictions of the policy and of the reference, and the gradients of a loss of both."""
    torch.manual_seed(0)
    precision, model = Precision(dtype), MODELS[name]()
    weights = WAYS[way](model, precision)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for each in weights.policy.values():
            each.add_(0.1 * torch.randn(each.shape, generator=generator))
    checkpoint_activations(model.networks, weights.replay) if name == "experts" else None
    if team.crew is not None:
        share([network for role in weights.roles.values() for network in role.networks.values()], team.crew)
    policy, reference = (weights.actor(model, role, precision) for role in ("policy", "reference"))
    condition, (x, t) = model.encode(PROMPTS[:2]), draw(model, 2)
    with torch.no_grad():
        base = reference.predict(x, t, condition, torch.tensor([0, 1]))
    found = policy.predict(x, t, condition, torch.tensor([0, 1]))
    (found - base - 1).square().mean().backward()
    team.sum_gradients(list(weights.policy.values()))
    gradients = {key: each.grad.clone() for key, each in weights.policy.items() if each.grad is not None}
    return {"found": found.detach(), "base": base, "gradients": gradients}


def _member(arguments: list[str]) -> int:
    torch.set_num_threads(1)
    team = in_crews(join(torch.device("cpu")), 2)
    found = {case: learnt(*case, team) for case in CASES}
    torch.save(found, Path(arguments[0]) / f"{team.crew.place}.pt")
    team.wait()
    return 0


CASES = (
    ("wan", "lora", "float32"),
    ("wan", "lora", "bfloat16"),
    ("experts", "full", "float32"),
    ("flux", "full", "float32"),
    ("flux2", "full", "float32"),
    ("flux2_klein", "lora", "float32"),
    ("qwen_image", "full", "float32"),
    ("flux_kontext", "lora", "float32"),
    ("qwen_image_edit", "lora", "float32"),
    ("qwen_image_edit_plus", "full", "float32"),
    ("ltx", "full", "float32"),
    ("hunyuan_video", "lora", "float32"),
)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[Any, Any]]:
    folder = tmp_path_factory.mktemp("two")
    together(2, _member, [str(folder)], __name__)
    return [torch.load(folder / f"{place}.pt") for place in range(2)]


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_two_that_share_tokens_are_one(case: tuple[str, str, Any], two: list[dict[Any, Any]]) -> None:
    """To float error; what both hold is the same to the bit, so that they never part."""
    first, second = (found[case] for found in two)
    torch.testing.assert_close(second, first, rtol=0, atol=0)
    alone, much = learnt(*case, Team()), 1e-5 if case[2] == "float32" else 2e-2
    for name in ("found", "base"):
        torch.testing.assert_close(first[name], alone[name], rtol=much, atol=much)
    largest = {key: float(gradient.abs().max()) for key, gradient in alone["gradients"].items()}
    for key, gradient in alone["gradients"].items():  # the smallest are what is left of large ones
        atol = much * max(largest[key], 1e-2 * max(largest.values()))
        torch.testing.assert_close(first["gradients"][key], gradient, rtol=0, atol=atol)


@pytest.mark.parametrize(
    ("network", "size", "says"),
    [
        (
            lambda: SD3.tiny().networks["transformer"],
            2,
            "cannot share out the tokens of a SD3Transformer2DModel",
        ),
        (lambda: nn.Linear(2, 2), 2, "cannot share out the tokens of a Linear"),
        (
            lambda: PIPED["cog_video"].model().networks["transformer"],
            2,
            "cannot share out the tokens of a CogVideoXTransformer3DModel",
        ),
        (lambda: Wan.tiny().networks["transformer"], 3, "those of this Wan.* are 2, no multiple of it: take context 2"),
    ],
)
def test_networks_that_cannot_be_shared_are_refused(network: Callable[[], nn.Module], size: int, says: str) -> None:
    with pytest.raises(UserError, match=f"^context {size}.* {says}"):
        share([network()], cast(Crew, SimpleNamespace(size=size, mesh=None)))
