"""What one of the processes takes that share the tokens of a clip, without the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import distributed

from limner.core.errors import UserError
from limner.core.types import Prompt, Vocabulary
from limner.machine.cost import sizes
from limner.machine.crew import shared
from limner.machine.plan import plan
from limner.models.wan.adapter import Wan
from limner.models.wan.build import WanSize, build
from limner.models.wan.settings import WanSettings
from limner.training.config import Lora, Model, RunConfig


def test_a_process_of_two_computes_half_of_what_is_of_the_clip(tmp_path: Path) -> None:
    """Of operations half and a little, for both read the text; of what grows with samples less than two thirds."""
    build(WanSize(Vocabulary(("red", "star")), layers=2, heads=2)).save_pretrained(tmp_path)
    clips = WanSettings(32, num_frames=13, max_sequence_length=8)
    alone = RunConfig("clips", Model("wan", str(tmp_path), clips, Lora(rank=2, alpha=4)), prompts="motion:train")
    one, two = sizes(alone), sizes(replace(alone, context=2))
    assert two.tokens == one.tokens == 7 * 4 * 4  # in attention, of half of the heads
    assert (two.networks, two.trained, two.decoding) == (one.networks, one.trained, one.decoding)
    for name in ("sampling", "learning"):
        all_of_it, part = getattr(one, name), getattr(two, name)
        assert all_of_it.flops / 2 < part.flops < 0.56 * all_of_it.flops
        assert all_of_it.each / 2 < part.each < 0.68 * all_of_it.each
    assert not distributed.is_initialized()
    with pytest.raises(UserError, match="^context 3: so many processes share the tokens of a sample, and 2 processes"):
        plan(replace(alone, context=3), processes=2)
    with pytest.raises(UserError, match="^context 4 shares out the heads of each attention, and those of this Wan"):
        plan(replace(alone, context=4), processes=4)
    assert not distributed.is_initialized()


def test_tokens_that_cannot_be_shared_are_refused_in_the_first_pass() -> None:
    """Of a picture of 48 x 48 there are nine, of two frames of latents eighteen."""
    model = Wan.tiny()
    condition, place = model.encode([Prompt("a red star")]), torch.zeros(1, dtype=torch.long)
    with shared(list(model.networks.values()), 2), torch.no_grad():
        found = model.predict(torch.zeros(1, 16, 2, 6, 6), torch.ones(1), condition, place)
        assert found.shape == (1, 16, 2, 6, 6)
        with pytest.raises(UserError, match="^context 2 shares out tokens, of which a clip has 9, no multiple of it"):
            model.predict(torch.zeros(1, 16, 1, 6, 6), torch.ones(1), condition, place)
