"""A run that goes on from what another one exported, by LoRA or whole, to LoRA or whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import limner
from limner.build import assemble
from limner.training.config import Full, Lora
from run.miniature import Miniature


@pytest.mark.parametrize("first", [Lora(rank=4, alpha=12), Full()], ids=["lora", "full"])
@pytest.mark.parametrize("second", [Lora(rank=4, alpha=8), Full()], ids=["lora", "full"])
def test_it_begins_where_the_other_ended(
    first: Lora | Full, second: Lora | Full, miniature: Miniature, tmp_path: Path
) -> None:
    config = miniature.config(tmp_path / "one", steps=1)
    config = replace(config, model=replace(config.model, train=first))
    run = limner.train(config, quiet=True)
    model = replace(config.model, train=second, start=str(run.folder / "export"))
    two = replace(config, model=model, out=str(tmp_path / "two"))
    begun = assemble(two)
    x, t = torch.randn(3, 4, 4, 4), torch.tensor([0.2, 0.5, 0.9])
    condition, index = (
        run.assembly.parts.studio.cache.condition([limner.Prompt("two red stars")]),
        torch.zeros(3).long(),
    )
    ended, base, start = (
        each.policy(role).model.predict(x, t, condition, index)
        for each, role in ((run.assembly, "policy"), (run.assembly, "reference"), (begun, "policy"))
    )
    assert (start - ended).abs().max() < 1e-5 < 1e-2 * (ended - base).abs().max()
    if (first, second) == (Lora(rank=4, alpha=12), Full()):
        return
    again = limner.train(two, quiet=True)
    assert limner.open_run(again.folder).state.iteration == 1
    assert "begun from" in (again.folder / "export" / "README.md").read_text()
