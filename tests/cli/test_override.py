"""Dotted keys change exactly what they name, and say what is wrong in the user's words."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import pytest

from limner.core.errors import UserError
from limner.core.settings import Named
from limner.recipes.override import keys_of, override
from limner.registry.names import REGISTRIES


@dataclass(frozen=True)
class Cat:
    lives: int = 9
    name: str = "tom"


@dataclass(frozen=True)
class Dog:
    size: float
    loud: bool = False

    def __post_init__(self) -> None:
        if self.size <= 0:
            raise UserError(f"size must be positive, got {self.size}")


@dataclass(frozen=True)
class Tag:
    text: str
    weight: float = 1.0


@dataclass(frozen=True)
class House:
    pet: Annotated[Cat | Dog, Named("pets")] = field(default_factory=Cat)
    first_tag: Tag = field(default_factory=lambda: Tag("a"))
    rooms: tuple[int, float] = (1, 2.0)
    words: tuple[str, ...] = ()
    tags: tuple[Tag, ...] = ()
    wall: Literal["red", "blue"] = "red"
    floors: int | None = None
    area: float = 1.0


HOUSE = House()
OWN = "; your own is named FILE.py:NAME"


@pytest.fixture(autouse=True)
def pets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry of their own."""
    monkeypatch.setitem(REGISTRIES, "pets", {kind.__name__: f"{__name__}:{kind.__name__}" for kind in (Cat, Dog)})  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, HOUSE),
        ({"area": "2e-4"}, House(area=2e-4)),
        ({"area": "inf"}, House(area=float("inf"))),
        ({"area": "3"}, House(area=3.0)),
        ({"area": 3}, House(area=3.0)),
        ({"floors": "3"}, House(floors=3)),
        ({"floors": "none"}, HOUSE),
        ({"wall": "blue"}, House(wall="blue")),
        ({"rooms": "3,0.5"}, House(rooms=(3, 0.5))),
        ({"rooms": "(3, 0.5)"}, House(rooms=(3, 0.5))),
        ({"words": "a,b"}, House(words=("a", "b"))),
        ({"words": ""}, HOUSE),
        ({"first-tag.weight": "-1"}, House(first_tag=Tag("a", -1.0))),
        ({"first_tag.weight": "-1"}, House(first_tag=Tag("a", -1.0))),
        ({"pet": "Cat"}, HOUSE),
        ({"pet.lives": "7"}, House(pet=Cat(7))),
        ({"pet": "Dog", "pet.size": "2"}, House(pet=Dog(2.0))),
        ({"pet.size": "2", "pet": "Dog"}, House(pet=Dog(2.0))),
        ({"pet": "Dog", "pet.size": "2", "pet.loud": True}, House(pet=Dog(2.0, loud=True))),
        ({"pet": "Dog", "pet.size": "2", "pet.loud": "FALSE"}, House(pet=Dog(2.0))),
        ({"pet": Dog(3.0)}, House(pet=Dog(3.0))),
        ({"tags": [{"text": "x"}, {"text": "y", "weight": 2}]}, House(tags=(Tag("x"), Tag("y", 2.0)))),
    ],
)
def test_override(values: dict[str, object], expected: House) -> None:
    assert override(HOUSE, values) == expected


def test_the_present_class_keeps_its_fields_and_another_one_starts_from_its_defaults() -> None:
    house = House(pet=Cat(lives=3, name="kit"))
    assert override(house, {"pet": "Cat", "pet.lives": "5"}) == replace(house, pet=Cat(5, "kit"))
    assert override(House(pet=Dog(1.0, True)), {"pet": "Cat"}).pet == Cat()


def test_types_are_those_of_the_fields() -> None:
    house = override(HOUSE, {"area": "1", "rooms": "1,1", "floors": "1"})
    assert [type(v) for v in (house.area, *house.rooms, house.floors)] == [float, int, float, int]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"floors": "ten"}, "--floors needs an integer, got 'ten'"),
        ({"floors": "1.5"}, "--floors needs an integer, got '1.5'"),
        ({"floors": True}, "--floors needs an integer, got nothing"),
        ({"area": "nan"}, "--area needs a number, got 'nan'"),
        ({"area": True}, "--area needs a number, got nothing"),
        ({"rooms": "1"}, "--rooms needs 2 values, as in 1,2, got '1'"),
        ({"rooms": "x,1"}, "--rooms needs an integer, got 'x'"),
        ({"wall": "bleu"}, "--wall cannot be 'bleu'; did you mean 'blue'? (known: blue, red)"),
        ({"aera": "1"}, "unknown key --aera; the nearest known key is --area"),
        ({"lives": "1"}, "unknown key --lives; the nearest known key is --pet.lives"),
        ({"first-tga.weight": "1"}, "unknown key --first-tga.weight; the nearest known key is --first-tag.weight"),
        ({"pet.size": "1"}, "unknown key --pet.size: --pet is Cat; the nearest known key is --pet.lives"),
        ({"area.x": "1"}, "unknown key --area.x: --area holds a single value"),
        ({"area": "1", "area.x": "1"}, "unknown key --area.x: --area holds a single value"),
        ({"first-tag": "1"}, "--first-tag holds no value itself; set --first-tag.text, --first-tag.weight"),
        (
            {"pet": "Dgo"},
            f"--pet cannot be 'Dgo'; did you mean 'Dog'? (known: Cat, Dog){OWN}",
        ),
        ({"pet": "Dog"}, "--pet.size is missing, and has no default"),
        ({"pet": "Dog", "pet.size": "2", "pet.loud": "maybe"}, "--pet.loud needs true or false, got 'maybe'"),
        ({"pet": "Dog", "pet.size": "-2"}, "size must be positive, got -2.0"),
        ({"tags": "a,b"}, "--tags needs a list, each with text, weight, got 'a,b'"),
    ],
)
def test_errors(values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        override(HOUSE, values)
    assert str(caught.value) == message


def test_keys_of() -> None:
    keys = [".".join(key) for key in keys_of(House)]
    tail = ["first_tag.text", "first_tag.weight", "rooms", "words", "tags", "wall", "floors", "area"]
    assert keys == ["pet", "pet.lives", "pet.name", *tail]
    assert ("pet", "loud") in keys_of(House, House(pet=Dog(1.0)))
