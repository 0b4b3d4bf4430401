from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import cosine_similarity
from transformers import Dinov2Model

import tiny_vision
from limner.core.errors import UserError
from limner.core.media import Images
from limner.core.types import Prompt
from limner.rewards.vision.dino_similarity import DinoSimilarity
from limner.rewards.vision.preprocess import IMAGENET, Preprocess


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dino")
    tiny_vision.dino(path)
    return path


def reward(folder: Path, against: str = "reference") -> DinoSimilarity:
    return DinoSimilarity(against=against, model=str(folder), resize=20, crop=16)


def tokens(folder: Path, pixels: torch.Tensor) -> torch.Tensor:
    seen = Preprocess(16, IMAGENET, resize=20)(pixels)
    return Dinov2Model.from_pretrained(folder)(pixel_values=seen).last_hidden_state[:, 0]


def test_it_is_the_cosine_with_the_reference(folder: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    pixels, reference = torch.rand(3, 3, 24, 30, generator=rng), torch.rand(3, 40, 33, generator=rng)
    prompts = [Prompt("a", {"reference": reference}), Prompt("b"), Prompt("c", {"reference": pixels[2]})]
    output = reward(folder)(Images(pixels), prompts)
    expected = cosine_similarity(tokens(folder, pixels[:1]), tokens(folder, reference[None]))
    assert output.valid.tolist() == [True, False, True] and output.score[1].isnan()
    assert output.score[0].item() == pytest.approx(expected.item(), abs=1e-5)
    assert output.score[2].item() == pytest.approx(1, abs=1e-5)


def test_it_is_the_mean_over_pairs_of_frames(folder: Path) -> None:
    pixels = torch.rand(4, 3, 24, 30, generator=torch.Generator().manual_seed(1))

    class Clip:
        def frames(self) -> torch.Tensor:
            return pixels[None]

    seen = tokens(folder, pixels)
    pairs = [cosine_similarity(seen[i], seen[j], dim=0) for i in range(4) for j in range(4) if i != j]
    output = reward(folder, "frames")(Clip(), [Prompt("a")])
    assert output.score.item() == pytest.approx(torch.stack(pairs).mean().item(), abs=1e-5)
    assert not reward(folder, "frames")(Images(pixels), [Prompt("a")] * 4).valid.any()


def test_a_wrong_request_is_named(folder: Path) -> None:
    with pytest.raises(UserError, match="unknown against 'frame'; did you mean 'frames'"):
        DinoSimilarity(against="frame")
    with pytest.raises(UserError, match=r"prompt 'a': meta.reference must be a tensor .* got str"):
        reward(folder)(Images(torch.rand(1, 3, 24, 24)), [Prompt("a", {"reference": "cat.png"})])
    with pytest.raises(UserError, match=r"got \(1, 3, 8, 8\)"):
        reward(folder)(Images(torch.rand(1, 3, 24, 24)), [Prompt("a", {"reference": torch.rand(1, 3, 8, 8)})])
