"""Facts about published checkpoints: counted as the libraries make them, and docs/models.md is made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import diffusers
import pytest
import torch
import transformers

from limner.cli import main
from limner.core.errors import UserError
from limner.models.published import Part
from limner.registry.find import find
from limner.registry.names import ADAPTERS, MODELS, PUBLISHED, RECIPES
from limner.registry.published import CARDS, memory_class, page, published

ROOT = Path(__file__).parents[2]
KNOWN = {"sd15": 859_520_964, "sdxl": 2_567_463_684, "flux1_dev": 11_901_408_320}
"""As the files on the hub have them."""
PARTS = {
    f"{part.kind}-{part.parameters}": part
    for _, each in published().values()
    for part in (each.network, each.autoencoder, *each.encoders, *([each.sight] if each.sight else []))
}


def made(part: Part) -> torch.nn.Module:
    with torch.device("meta"):
        if part.kind in dir(diffusers):
            return getattr(diffusers, part.kind)(**part.config)
        kind = getattr(transformers, part.kind)
        return kind(kind.config_class(**part.config))


@pytest.mark.parametrize("name", PARTS)
def test_parameters_are_counted(name: str) -> None:
    """Without weights: on the meta device, where nothing is allocated."""
    assert sum(each.numel() for each in made(PARTS[name]).parameters()) == PARTS[name].parameters


def test_networks_are_as_large_as_the_published_ones() -> None:
    assert {name: published()[name][1].network.parameters for name in KNOWN} == KNOWN


def test_every_kind_has_facts_and_an_adapter() -> None:
    assert MODELS.keys() == ADAPTERS.keys() == PUBLISHED.keys() | {"gan", "tokens", "janus", "emu3", "amused"}
    for kind in PUBLISHED:
        assert find(ADAPTERS, "model kind", kind).lora_targets and find(PUBLISHED, "model kind", kind)
    assert {each.recipe for _, each in published().values()} - {""} <= RECIPES.keys()


def test_two_experts_are_counted_twice() -> None:
    one, two = (published()[name][1] for name in ("wan21_14b", "wan22_a14b"))
    assert two.predicting == 2 * one.predicting == 2 * one.network.parameters
    assert memory_class(one) == 48 and memory_class(two) is None
    assert "| 2 x 14.29 B | 53.2 + 0.2 + 10.6 GiB | > 80 GB |" in page()


def test_what_sees_a_first_frame_is_counted() -> None:
    facts = published()["wan21_i2v_480p"][1]
    assert facts.sight is not None and facts.sight.parameters < published()["wan21_14b"][1].network.parameters
    network, sight = made(facts.network), made(facts.sight)
    assert network.config.image_dim == sight.config.hidden_size  # what reads fits what sees
    assert network.config.added_kv_proj_dim == network.config.num_attention_heads * network.config.attention_head_dim
    assert "| 16.39 B | 30.5 + 0.2 + 10.6 + 1.2 GiB | 80 GB |" in page()


def test_a_class_leaves_two_fifths_of_the_card() -> None:
    classes = {name: memory_class(each) for name, (_, each) in published().items()}
    assert classes["sd15"] == 12 and classes["sd35_large"] == 48 and classes["flux1_dev"] == 48
    for name, (_, each) in published().items():
        weights, card = 2 * each.predicting, classes[name]
        assert weights > 0.6e9 * max(CARDS) if card is None else card in CARDS and weights <= 0.6e9 * card
    too_large = replace(published()["sd15"][1], network=Part("none", 24_000_000_001))
    assert memory_class(too_large) is None


def test_the_page_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """After a change: limner models --out docs/models.md"""
    assert main(["models"]) == 0
    assert capsys.readouterr().out == page() == (ROOT / "docs" / "models.md").read_text(encoding="utf-8")


def test_a_page_that_cannot_be_made_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "models.md"
    assert main(["models", "--out", str(place)]) == 0 and place.read_text(encoding="utf-8") == page()

    def broken() -> str:
        raise UserError("a kind cannot be read")

    monkeypatch.setattr("limner.registry.published.page", broken)
    assert main(["models", "--out", str(place)]) == 2
    assert "limner" in place.read_text(encoding="utf-8")
