"""What a user's file changes for the whole process is put back, also if it does not import, or is a reward's call."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from limner.core.errors import BrokenReward, UserError
from limner.core.media import Images
from limner.core.types import Prompt
from limner.judging.checked import Checked
from limner.registry.file import import_file

CHANGES: dict[str, tuple[str, Callable[[], Any]]] = {
    "dtype": ("torch.set_default_dtype(torch.float64)", torch.get_default_dtype),
    "tensor type": ("torch.set_default_tensor_type(torch.DoubleTensor)", torch.get_default_dtype),
    "device": ("torch.set_default_device('meta')", lambda: torch.zeros(1).device),
    "gradients": ("torch.set_grad_enabled(False)", torch.is_grad_enabled),
    "seed": ("torch.manual_seed(7)", lambda: torch.get_rng_state().tolist()),
    "draws": ("torch.rand(3)", lambda: torch.get_rng_state().tolist()),
    "threads": ("torch.set_num_threads(3)", torch.get_num_threads),
    "precision": ("torch.set_float32_matmul_precision('medium')", torch.get_float32_matmul_precision),
    "determinism": ("torch.use_deterministic_algorithms(True)", torch.are_deterministic_algorithms_enabled),
    "warning": (
        "torch.use_deterministic_algorithms(True, warn_only=True)",
        torch.is_deterministic_algorithms_warn_only_enabled,
    ),
    "anomalies": ("torch.autograd.set_detect_anomaly(True)", torch.is_anomaly_enabled),
    "benchmark": ("torch.backends.cudnn.benchmark = True", lambda: torch.backends.cudnn.benchmark),
    "cudnn": ("torch.backends.cudnn.deterministic = True", lambda: torch.backends.cudnn.deterministic),
    "off": ("torch.backends.cudnn.enabled = False", lambda: torch.backends.cudnn.enabled),
    "folder": ("import os; os.chdir('/')", os.getcwd),
}


@pytest.mark.parametrize(("change", "read"), CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("end", ["", "\nraise ValueError('broken')"], ids=["imports", "raises"])
@pytest.mark.filterwarnings("ignore")
def test_what_a_file_changes_is_put_back(tmp_path: Path, change: str, read: Callable[[], Any], end: str) -> None:
    file = tmp_path / "own.py"
    file.write_text(f"import torch\n{change}\nmade = torch.zeros(1){end}")
    before = read()
    if end:
        with pytest.raises(UserError, match="own.py does not import: ValueError at line 4: broken"):
            import_file(file, "reward")
    else:
        import_file(file, "reward")
    assert read() == before
    assert torch.zeros(1).dtype == torch.float32 and torch.zeros(1).device.type == "cpu"


def test_what_was_chosen_before_stays(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import torch\ntorch.set_default_dtype(torch.float32)\ntorch.set_grad_enabled(True)"
    )
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            import_file(tmp_path / "own.py", "reward")
            assert not torch.is_grad_enabled() and torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


DRAWN = ("seed", "draws")


@pytest.mark.parametrize("kind", [kind for kind in CHANGES if kind not in DRAWN])
@pytest.mark.parametrize(
    "end", ["", "; raise ValueError('broken')", "; raise SystemExit(3)"], ids=["ends", "raises", "exits"]
)
@pytest.mark.filterwarnings("ignore")
def test_what_a_reward_changes_when_it_is_asked_is_put_back(kind: str, end: str) -> None:
    change, read = CHANGES[kind]

    def reward(media: Any, prompts: Any) -> list[float]:
        exec(change + end, {"torch": torch})
        return [0.0]

    before = read()
    try:
        Checked("mine", reward)(Images(torch.zeros(1, 3, 4, 4)), [Prompt("a")])
    except BrokenReward as error:
        assert end and "'mine' raised " in str(error)
    assert read() == before


def test_a_reward_that_draws_draws_anew_each_time() -> None:
    judge = Checked("mine", lambda media, prompts: torch.rand(1))
    media, prompts = Images(torch.zeros(1, 3, 4, 4)), [Prompt("a")]
    assert judge(media, prompts).score != judge(media, prompts).score
