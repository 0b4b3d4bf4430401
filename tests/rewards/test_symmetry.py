import pytest
import torch

from limner.core.errors import UserError
from limner.core.media import Images
from limner.core.types import Prompt
from limner.rewards.symmetry import Symmetry

ONE = [Prompt("a")]


@pytest.mark.parametrize(
    ("axis", "expected"),
    [("vertical", 1 - 0.5), ("horizontal", 1.0), ("point", 1 - 0.5)],
)
def test_by_hand(axis: str, expected: float) -> None:
    """Left column 0.5 lighter than the right one: half of it is missing in the mirror."""
    pixels = torch.tensor([[0.75, 0.25], [0.75, 0.25]]).expand(1, 3, 2, 2)
    assert Symmetry(axis=axis)(Images(pixels), ONE).tolist() == [expected]


def test_opposite_halves_score_zero_and_a_mirrored_picture_one() -> None:
    pixels = torch.zeros(2, 3, 4, 6)
    pixels[0, ..., :3] = 1
    half = torch.rand(3, 4, 3, generator=torch.Generator().manual_seed(0))
    pixels[1] = torch.cat([half, half.flip(-1)], -1)
    assert Symmetry()(Images(pixels), ONE * 2).tolist() == [0.0, 1.0]
    assert Symmetry(axis="horizontal")(Images(pixels), ONE * 2).tolist()[0] == 1.0


def test_an_unknown_axis_is_named() -> None:
    with pytest.raises(UserError, match="unknown axis 'vertcal'; did you mean 'vertical'"):
        Symmetry(axis="vertcal")
