"""Every recipe of a published checkpoint on every card: what makes it fit can be set, and then it fits."""

from __future__ import annotations

from math import prod

import pytest

from limner.machine import plan, ways
from limner.machine.cost import Cost, Sizes
from limner.machine.fitting import ANOTHER_RUN, way_to_fit
from limner.machine.plan import room
from limner.recipes.named import recipe
from limner.recipes.override import override
from limner.registry.published import CARDS, published
from limner.training.config import RunConfig

BYTES = {"none": 2.0, "int8": 1 + 1 / 16, "nf4": 0.5 + 1 / 16}
"""Of a weight of a frozen base."""
FACTS = {each.recipe: each for _, each in published().values() if each.recipe}


def by_hand(config: RunConfig) -> Sizes:
    """Return sizes by published facts, with half a GiB for each sample of a pass: no network is made."""
    facts, chosen = FACTS[config.name], config.model.settings
    networks = BYTES[config.model.quantize] * facts.network.parameters
    frames = facts.latent[1] if len(facts.latent) > 3 else 1
    side = vars(chosen)["resolution"] or 1024
    shape = (frames, 3, side, vars(chosen)["width"] or side)
    each = 2**29 * prod(shape[2:]) / 1024**2
    return Sizes(
        source="by hand",
        latent=(facts.latent[0], *facts.latent[1:-2], shape[2] // 8, shape[3] // 8),
        tokens=1,
        networks=int(networks),
        trained=20_000_000,
        lora=80_000_000,
        decoder=4 * facts.autoencoder.parameters,
        encoders=2 * sum(part.parameters for part in facts.encoders),
        condition=2**20,
        picture=prod(shape),
        shape=shape,
        sampling=Cost(0, each / 4, 1, 1),
        learning=Cost(0, each, 1, 1),
        decoding=Cost(0, each, 1, 1),
        encoding=Cost(0, 2**26, 1, 1),
        waiting=int(0.9 * networks) if config.model.offload == "blocks" else 0,
    )


@pytest.fixture(autouse=True)
def without_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (plan, ways):
        monkeypatch.setattr(module, "sizes", by_hand)


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("name", sorted(FACTS))
def test_what_makes_a_recipe_fit_can_be_set_and_fits(name: str, card: int) -> None:
    config = recipe(name)
    way = way_to_fit(config, card)
    assert (way is None) == (plan.plan(config, card).peak.peak <= room(card))
    if way is not None:
        assert not ANOTHER_RUN & way.keys.keys() and way.peak <= room(card)
        assert way_to_fit(override(config, way.keys), card) is None
