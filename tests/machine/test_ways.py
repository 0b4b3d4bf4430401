"""The ways to make a run fit, on sizes by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from limner.algorithms.diffusion_nft import DiffusionNFT
from limner.algorithms.flow_grpo import FlowGRPO
from limner.diffusion.dynamics import EulerODE, FlowSDE
from limner.machine import ways as module
from limner.machine.cost import Cost, Sizes
from limner.machine.cut import Held
from limner.machine.memory import Place
from limner.machine.prices import AWAY, BFLOAT16, CHECKPOINTING, TILED
from limner.machine.ways import ways
from limner.policies.denoising import Sampler
from limner.training.config import Full, Model, RunConfig
from limner.training.workload import workload

NOTHING = Cost(0, 0, 1, 1)
SIZES = Sizes(
    "by hand", (1,), 1, 1000, 0, 0, 0, 0, 0, 3 * 64 * 64, (1, 3, 64, 64), NOTHING, Cost(0, 1000, 1, 1), NOTHING, NOTHING
)
CONFIG = RunConfig(
    "x", algorithm=DiffusionNFT(), sampler=Sampler(EulerODE()), prompts_per_step=2, group_size=8, micro_batch=16
)


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    def sizes(config: RunConfig) -> Sizes:
        halved = config.precision.activation_checkpointing
        return replace(SIZES, learning=Cost(0, 500 if halved else 1000, 1, 1))

    monkeypatch.setattr(module, "sizes", sizes)


def test_the_cheapest_come_first() -> None:
    """1064 stay; of 16 x 1000 a card of 9,100 holds passes of eight, or sixteen of half the size."""
    found = ways(CONFIG, workload(CONFIG), Place(accelerator=True), 9_100)
    assert [way.flags for way in found][:2] == ["--micro_batch 8", "--precision.activation_checkpointing true"]
    assert [way.peak for way in found][:2] == [1064 + 8_000, 1064 + 8_000] and found[0].phase == "update"
    assert found[0].price == "more, smaller passes"


def test_fewer_samples_decoded_at_once_are_the_cheapest(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,064 stay, and each of 16 decoded samples takes 1,000: 4 fit in 6,000, whatever the passes are."""
    sizes = replace(SIZES, learning=NOTHING, decoding=Cost(0, 1000, 1, 1))
    monkeypatch.setattr(module, "sizes", lambda config: sizes)
    (way, *_) = ways(CONFIG, workload(CONFIG), Place(accelerator=True), 6_000)
    assert (way.flags, way.peak, way.phase) == ("--model.decode_batch 4", 1_064 + 4_000, "decode")
    assert way.price == "fewer samples decoded at once"
    sizes = replace(sizes, learning=Cost(0, 900, 1, 1))  # and passes of four beside it
    (way, *_) = ways(CONFIG, workload(CONFIG), Place(accelerator=True), 5_100)
    assert way.flags == "--micro_batch 4" and way.peak == 5_064


def test_a_sample_that_cannot_be_decoded_whole_is_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 5,000 whole and 500 in tiles 3,000 hold four of these."""

    def sizes(config: RunConfig) -> Sizes:
        return replace(SIZES, learning=NOTHING, decoding=Cost(0, 500 if config.model.vae_tiling else 5_000, 1, 1))

    monkeypatch.setattr(module, "sizes", sizes)
    (way, *_) = ways(CONFIG, workload(CONFIG), Place(accelerator=True), 3_100)
    assert way.flags == "--model.vae_tiling true --model.decode_batch 4" and way.peak == 1_064 + 2_000
    assert way.price.startswith("pictures decoded in tiles")


def test_with_blocks_away_a_sample_is_decoded_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 1,000 of weights 900 wait; beside what stays 1,500 hold one sample of 1,300 whole, and 1,450 do not.

    What tiles take is asked only where they alone would help: not where learning, of 600 each, does not fit either.
    """
    tiled: list[bool] = []

    def sizes(config: RunConfig) -> Sizes:
        tiles, away = config.model.vae_tiling, config.model.offload == "blocks"
        tiled.append(tiles)
        learning = Cost(0, 300 if away else 600, 1, 1)
        return replace(SIZES, learning=learning, decoding=Cost(0, 100 if tiles else 1_300, 1, 1), waiting=900 * away)

    monkeypatch.setattr(module, "sizes", sizes)
    (way, *_) = ways(CONFIG, workload(CONFIG), Place(accelerator=True), 1_500)
    assert way.keys == {**BFLOAT16, **CHECKPOINTING, **AWAY, "micro_batch": "4", "model.decode_batch": "1"}
    assert (way.peak, way.phase) == (100 + 64 + 1_300, "decode") and sum(tiled) == 0
    (way, *_) = ways(CONFIG, workload(CONFIG), Place(accelerator=True), 1_450)
    assert way.keys == {**BFLOAT16, **CHECKPOINTING, **AWAY, "micro_batch": "4", **TILED}
    assert (way.peak, way.phase) == (100 + 64 + 4 * 300, "update") and sum(tiled) == 1


def test_decisions_wait_on_the_host_where_there_is_another_memory() -> None:
    """16 x (2 + 2 x 9) latents of 4 bytes are 1,280; on the host 64 are left."""
    config = replace(CONFIG, algorithm=FlowGRPO(), sampler=Sampler(FlowSDE()))
    found = ways(config, workload(config), Place(accelerator=True), 17_500)
    assert [way.flags for way in found][:2] == ["--micro_batch 8", "--sampler.keep host"]
    assert [way.peak for way in found][:2] == [1_000 + 1_280 + 8_000, 1_000 + 64 + 16_000]
    assert not any("sampler.keep" in way.keys for way in ways(config, workload(config), Place(False), 17_500))


def test_text_encoders_without_room_stay_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 of weights and 64 of latents stay; 900 of encoders have room in 2,000 bytes, and 1,200 have none."""
    for encoders, keys in ((900, {}), (1_200, {"model.encoders": "cpu"})):
        monkeypatch.setattr(module, "sizes", lambda config, n=encoders: replace(SIZES, encoders=n))
        (way, *_) = ways(CONFIG, workload(CONFIG), Place(accelerator=True), 2_100)
        assert way.keys == {**keys, "micro_batch": "1"} and (way.peak, way.phase) == (2_064, "update")
        assert ("each prompt encoded once on the CPU" in way.price) == bool(keys)


def test_processes_share_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 800 bytes in blocks of 100 a half stays, and 300 are brought together; processes alone save nothing."""
    rows = tuple(Held(0, block, 100, 1, 1, False, False) for block in range(8))
    monkeypatch.setattr(module, "sizes", lambda config: replace(SIZES, networks=1000, held=rows))
    one, two = (ways(CONFIG, workload(CONFIG, n), Place(accelerator=True), 1_950) for n in (1, 2))
    assert one == () and [(way.flags, way.peak) for way in two] == [
        ("--shard all --micro_batch 1", 200 + 400 + 300 + 32 + 1_000)
    ]
    spread = replace(CONFIG, shard="all")
    assert not any("shard" in way.keys for way in ways(spread, workload(spread, 2), Place(accelerator=True), 1_950))


def test_nothing_makes_it_fit() -> None:
    assert ways(CONFIG, workload(CONFIG), Place(accelerator=True), 900) == ()


def test_a_frozen_base_in_four_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 1,000 bytes of weights 300 are left, which no other way gives; of what is trained whole there are no codes."""

    def sizes(config: RunConfig) -> Sizes:
        return replace(SIZES, networks=300 if config.model.quantize == "nf4" else 1000)

    monkeypatch.setattr(module, "sizes", sizes)
    (way,) = ways(CONFIG, workload(CONFIG), Place(accelerator=True), 1_400)
    assert way.keys["model.quantize"] == "nf4" and way.peak == 300 + 64 + 1_000
    assert way.price.startswith("the frozen base in 4 bits, rounded")
    whole = replace(CONFIG, model=Model(train=Full()))
    assert ways(whole, workload(whole), Place(accelerator=True), 1_400) == ()
