"""Numbers have their range where they are declared, and whoever makes settings meets it."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, fields, replace
from typing import Annotated, Literal, get_args, get_type_hints

import numpy as np
import pytest

from limner.algorithms.diffusion_nft import DiffusionNFT
from limner.core.errors import UserError
from limner.core.settings import Cap, Count, Finite, Natural, NotNegative, Positive, Range, Share, settings
from limner.registry.find import find
from limner.registry.names import ALGORITHMS
from limner.training.config import DataAnchor, Evaluation, Lora, Optimizer, RunConfig


@settings
class Bowl:
    """Some numbers."""

    size: Count = 1
    rest: Natural = 0
    weight: NotNegative = 0.0
    width: Positive = 1.0
    cut: Cap = 1.0
    part_of: Count | None = None
    whole: tuple[Natural, ...] = ()
    kind: Literal["deep", "flat"] = "deep"
    full: bool = False
    part: Share = 0.0
    rate: Annotated[float, Range(above=0, most=1)] = 1.0
    tilt: Finite = 0.0
    both: Annotated[tuple[float, float], Range(least=0, below=1)] = (0.0, 0.0)
    name: str = "bowl"

    def __post_init__(self) -> None:
        if self.rest >= self.size:
            raise UserError(f"rest {self.rest} must be below size {self.size}")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 0}, "Bowl: size must be at least 1 and at most 100000000, got 0"),
        ({"rest": -1}, "Bowl: rest must be at least 0, got -1"),
        ({"weight": -0.1}, "Bowl: weight must be at least 0 and finite, got -0.1"),
        ({"width": 0.0}, "Bowl: width must be above 0 and finite, got 0.0"),
        ({"width": math.nan}, "Bowl: width must be above 0 and finite, got nan"),
        ({"weight": math.inf}, "Bowl: weight must be at least 0 and finite, got inf"),
        ({"tilt": -math.inf}, "Bowl: tilt must be finite, got -inf"),
        ({"both": (0.5, 1.0)}, "Bowl: both must be at least 0 and below 1, got (0.5, 1.0)"),
        ({"part": 1.0}, "Bowl: part must be at least 0 and below 1, got 1.0"),
        ({"rate": 1.5}, "Bowl: rate must be above 0 and at most 1, got 1.5"),
        ({"cut": 0.0}, "Bowl: cut must be above 0, got 0.0"),
        ({"part_of": 0}, "Bowl: part_of must be at least 1 and at most 100000000, got 0"),
        ({"whole": (1, -1)}, "Bowl: whole must be at least 0, got (1, -1)"),
        ({"size": 10**5000}, "Bowl: size must be below 2^63, got a number of too many digits"),
        ({"size": 2**63}, "Bowl: size must be below 2^63, got 9223372036854775808"),
        ({"size": 1.0}, "Bowl: size must be an integer, got 1.0"),
        ({"size": True}, "Bowl: size must be an integer, got True"),
        ({"size": "3"}, "Bowl: size must be an integer, got '3'"),
        ({"size": None}, "Bowl: size must be an integer, got None"),
        ({"part_of": "3"}, "Bowl: part_of must be an integer or None, got '3'"),
        ({"tilt": "x" * 1000}, f"Bowl: tilt must be a number, got '{'x' * 39}...{'x' * 19}'"),
        ({"tilt": True}, "Bowl: tilt must be a number, got True"),
        ({"tilt": 1j}, "Bowl: tilt must be a number, got 1j"),
        ({"both": [0.5, 0.5]}, "Bowl: both must be a tuple, of a number each, got [0.5, 0.5]"),
        ({"both": (0.5,)}, "Bowl: both must be a tuple, of a number each, got (0.5,)"),
        ({"whole": (1, "x")}, "Bowl: whole must be a tuple, of an integer each, got (1, 'x')"),
        ({"kind": "wide"}, "Bowl: kind must be 'deep' or 'flat', got 'wide'"),
        ({"kind": []}, "Bowl: kind must be 'deep' or 'flat', got []"),
        ({"full": 1}, "Bowl: full must be true or false, got 1"),
        ({"name": 3}, "Bowl: name must be text, got 3"),
        ({"rest": 3, "size": 3}, "rest 3 must be below size 3"),
    ],
)
def test_a_number_outside_its_range_is_refused(values, message):
    for make in (lambda: Bowl(**values), lambda: replace(Bowl(), **values)):
        with pytest.raises(UserError) as error:
            make()
        assert str(error.value) == message


def test_the_ends_of_a_range_and_what_has_none():
    bowl = Bowl(size=5, rest=4, weight=0, cut=math.inf, part=0, rate=1, name="deep")
    assert replace(bowl, rest=0) == Bowl(5, 0, 0, cut=math.inf, part=0, rate=1, name="deep")
    assert Bowl(np.int64(3), tilt=np.float32(2), part_of=None, whole=(0, 1)).size == 3
    with pytest.raises(FrozenInstanceError):
        bowl.size = 2


OF_A_RUN = {kind.__name__: kind for kind in (Lora, Optimizer, DataAnchor, Evaluation, RunConfig)}


@pytest.mark.parametrize("name", [*ALGORITHMS, *OF_A_RUN])
def test_every_number_has_its_range(name):
    kind = OF_A_RUN.get(name) or find(ALGORITHMS, "algorithm", name)
    hints = get_type_hints(kind, include_extras=True)
    assert [f.name for f in fields(kind) if get_args(hints[f.name])[:1] in ((int,), (float,))]
    assert not [field.name for field in fields(kind) if hints[field.name] in (int, float)]


def test_text_and_python_meet_the_same_range():
    with pytest.raises(UserError, match="DiffusionNFT: decay_max must be at least 0 and below 1, got 1"):
        DiffusionNFT(decay_max=1.0)
