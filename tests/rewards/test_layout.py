import math

import pytest
import torch

from limner.core.errors import UserError
from limner.core.media import Images
from limner.core.types import Prompt
from limner.rewards.layout import COLOURS, layout


def flag() -> torch.Tensor:
    """Red on the left, blue on the right."""
    pixels = torch.zeros(1, 3, 4, 8)
    pixels[:, 0, :, :4] = 1
    pixels[:, 2, :, 4:] = 1
    return pixels


def asks(*entries: tuple[str, object]) -> list[Prompt]:
    return [Prompt("a flag", {"layout": [{"colour": colour, "region": region} for colour, region in entries]})]


def test_the_right_colours_in_the_right_places_score_one() -> None:
    output = layout(Images(flag()), asks(("red", "left"), ("#0000FF", [0.5, 0, 1, 1])))
    assert output.score.tolist() == [1.0] and output.components["worst"].tolist() == [1.0] and output.valid.all()


def test_by_hand() -> None:
    """From red the farthest colour is cyan, sqrt(3) away, and blue is sqrt(2) away; half of `all` is red."""
    output = layout(Images(flag()), asks(("red", "right"), ("red", "all"), ("red", "left")))
    wrong = 1 - math.sqrt(2) / math.sqrt(3)
    assert output.score.item() == pytest.approx((wrong + (1 + wrong) / 2 + 1) / 3)
    assert output.components["worst"].item() == pytest.approx(wrong)


def test_the_map_says_where() -> None:
    """Red is wanted on the right, where blue is, and in the middle, half of which is red; nothing far left."""
    output = layout(Images(flag()), asks(("red", "right"), ("red", "centre")))
    wrong, (rows,) = 1 - math.sqrt(2) / math.sqrt(3), output.maps["nearness"]
    assert rows.shape == (4, 8) and rows[:, :2].isnan().all() and rows[0, :4].isnan().all()
    assert rows[1:3, 2:4].eq(1).all() and rows[:, 4:].flatten().tolist() == pytest.approx([wrong] * 16)


@pytest.mark.parametrize("colour", [*COLOURS, "#123456"])
def test_the_farthest_colour_scores_zero(colour: str) -> None:
    code = COLOURS.get(colour, colour)
    rgb = torch.tensor([int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    pixels = (rgb < 0.5).float()[None, :, None, None].expand(1, 3, 2, 2)
    assert layout(Images(pixels), asks((colour, "all"))).score.item() == pytest.approx(0, abs=1e-6)


def test_a_prompt_without_a_layout_cannot_be_judged() -> None:
    prompts = [*asks(("red", "left")), Prompt("b"), Prompt("c", {"layout": []})]
    output = layout(Images(flag().expand(3, -1, -1, -1)), prompts)
    assert output.valid.tolist() == [True, False, False] and output.score.isnan().tolist() == [False, True, True]


@pytest.mark.parametrize("entries", [5, {"colour": "red"}, [{"colour": "red", "region": "all"}] * 65])
def test_what_is_no_short_list_is_refused(entries: object) -> None:
    with pytest.raises(UserError, match=r"prompt 'a flag': meta.layout is a list of 64 entries at most"):
        layout(Images(flag()), [Prompt("a flag", {"layout": entries})])


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"colour": "rd", "region": "left"}, "no colour 'rd', write #rrggbb; did you mean 'red'"),
        ({"colour": "#12345", "region": "left"}, "no colour '#12345'"),
        ({"colour": "red", "region": "lft"}, "no region 'lft'; did you mean 'left'"),
        ({"colour": "red", "region": [0.5, 0, 0.5, 1]}, "a box is .x0, y0, x1, y1., growing, in .0, 1., got "),
        ({"colour": "red", "region": [0, 0, 2, 1]}, "a box is "),
        ({"colour": "red", "region": [0, 0, 0.01, 1]}, "holds no pixel of 8x4"),
        ({"colour": "red"}, "each entry of meta.layout is"),
    ],
)
def test_a_bad_entry_is_named_with_its_prompt(meta: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=f"prompt 'a flag'.*{message}"):
        layout(Images(flag()), [Prompt("a flag", {"layout": [meta]})])
