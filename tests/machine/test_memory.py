"""Bytes by phase and kind, by hand; tests/machine/test_plan.py compares them with what models take."""

from __future__ import annotations

from dataclasses import replace

import pytest

from limner.machine.cost import Cost, Sizes
from limner.machine.cut import Cut, Held, cut
from limner.machine.memory import Place, path_bytes, peak, phases, share
from limner.training.workload import Workload

CARD = Place(accelerator=True)
SIZES = Sizes(
    source="by hand",
    latent=(2, 5, 10),
    tokens=50,
    networks=10_000,
    trained=100,
    lora=400,
    decoder=2_000,
    encoders=7_000,
    condition=30,
    picture=12_288,
    shape=(1, 3, 64, 64),
    sampling=Cost(fixed=5, each=20, flops=1, evaluations=1),
    learning=Cost(fixed=1_000, each=600, flops=3, evaluations=1),
    decoding=Cost(fixed=0, each=900, flops=1),
    encoding=Cost(fixed=0, each=77, flops=1),
)
WORK = Workload(groups=4, group=3, steps=6, states=18, recorded=5, taught=15, updates=2, micro_batch=8)


def test_a_cost_is_a_line() -> None:
    assert SIZES.sampling.bytes(8) == 5 + 8 * 20 and SIZES.sampling.bytes(0) == 0


def test_the_path_is_kept() -> None:
    """12 samples of 100 elements in float32, and of five decisions six points and five means."""
    assert path_bytes(SIZES, WORK, 12) == 12 * 400 * (1 + 6 + 5) == 57_600
    assert path_bytes(SIZES, replace(WORK, recorded=0), 12) == 12 * 400


def test_a_card() -> None:
    """Resident are 10,000 + 400 + 2,000, and Adam's 8 x 100; five conditions, the empty one too."""
    resident = 13_200
    encode, rollout, decode, update = phases(SIZES, WORK, CARD)
    assert encode.peak == resident + 7_000 + 77
    assert rollout.peak == resident + 57_600 + 150 + 5 + 8 * 20 + 8 * 4_800  # 8 are drawn, and put where they belong
    assert decode.peak == resident + 57_600 + 150 + 8 * 900  # the whole micro-batch is decoded at once
    assert update.peak == resident + 57_600 + 150 + 1_000 + 8 * 600  # gradients are in the pass
    assert update.bytes["gradients"] == 400 and update.bytes["activations"] == 5_400
    assert peak((encode, rollout, decode, update)) is rollout


def test_what_is_drawn_at_once_is_not_copied() -> None:
    assert phases(SIZES, replace(WORK, micro_batch=12), CARD)[1].bytes["activations"] == 5 + 12 * 20


def test_decisions_that_wait_on_the_host_are_not_on_the_card() -> None:
    """What is left of the path is 12 samples of 400 bytes; in one memory nothing is saved."""
    waiting = replace(WORK, on_device=False)
    _, rollout, decode, update = phases(SIZES, waiting, CARD)
    assert rollout.peak == 13_200 + 4_800 + 150 + 5 + 8 * 20 + 8 * 400
    assert decode.peak == 13_200 + 4_800 + 150 + 8 * 900
    assert update.bytes["path"] == 4_800
    assert phases(SIZES, waiting, Place(accelerator=False)) == phases(SIZES, WORK, Place(accelerator=False))


def test_a_pass_of_sampling_and_its_path() -> None:
    (_, rollout, _, _) = phases(replace(SIZES, sampling=Cost(0, 20_000, 1, 1)), WORK, CARD)
    assert rollout.bytes["activations"] == 8 * 20_000 + 8 * 4_800


def test_processes_share_the_path_alone() -> None:
    one, two = (phases(SIZES, replace(WORK, processes=n), CARD)[3] for n in (1, 2))
    assert one.bytes["path"] == 2 * two.bytes["path"] and one.bytes["activations"] == two.bytes["activations"]
    assert (one.bytes["conditions"], two.bytes["conditions"]) == (150, 90)


def test_weights_in_parts() -> None:
    """Of 7 rows of 1,000 bytes around the blocks two processes have 4; of 24 and 16 rows of LoRA in blocks the half.

    Buffers, 3,000 bytes, are whole. What is brought together is 8,000 and, of the larger block, 240: what learns is
    frozen in the other, of the old policy.
    """
    rows = (
        Held(0, None, 7, 1_000, 500, False, False),
        Held(0, 0, 24, 10, 5, True, True),
        Held(0, 1, 16, 10, 5, True, False),
    )
    sizes = replace(SIZES, lora=400, trained=120, held=rows)
    work = replace(WORK, processes=4, machines=2, shard="machine")
    own = share(sizes, work.parts)
    assert own == Cut(networks=3_000 + 4_000, lora=120 + 80, trained=60, forward=16_480, backward=16_480)
    assert share(sizes, replace(work, shard="none").parts) == Cut(10_000, 400, 120)
    _, rollout, decode, update = phases(sizes, work, CARD)
    assert rollout.bytes["gathered"] == update.bytes["gathered"] == 16_480 and "gathered" not in decode.bytes
    assert (update.bytes["gradients"], update.bytes["optimizer"]) == (4 * 60, 8 * 60)
    assert replace(work, shard="all").parts == 4


def test_what_learns_is_whole_until_it_is_summed() -> None:
    """R = 100 and B = 300 in a forward pass of 100 + 2 x 300 + 300; with gradients 200 + 4 x 300."""
    rows = tuple(Held(0, block, 1, size, size // 4, False, True) for block, size in ((None, 100), (0, 300), (1, 200)))
    found = cut(rows, 1, 0)
    assert (found.forward, found.backward) == (1_000, 1_400)


def test_an_average_stays() -> None:
    without, averaged = (phases(SIZES, replace(WORK, averaged=each), CARD)[0].peak for each in (False, True))
    assert averaged - without == 4 * SIZES.trained


def test_in_one_memory_everything_stays() -> None:
    """Encoders and libraries in every phase, and the pictures, a byte a level, twice while they are joined."""
    found = phases(SIZES, WORK, Place(accelerator=False, imported=1e6))
    assert all(phase.bytes["encoders"] == 7_000 and phase.bytes["libraries"] == 1e6 for phase in found)
    assert found[2].bytes["pictures"] == 2 * 12 * 12_288 and "pictures" not in found[1].bytes


def test_adams_own_copy_may_be_more_than_a_pass() -> None:
    """It holds one number for each trained element while it steps."""
    full = replace(SIZES, trained=10**6, lora=0)
    assert phases(full, WORK, CARD)[3].bytes["activations"] == 4e6


@pytest.mark.parametrize(("card", "side", "at_once"), [(True, 64, 8), (True, 1024, 4), (False, 64, 8), (False, 512, 1)])
def test_a_decoder_takes_a_few_at_a_time(card: bool, side: int, at_once: int) -> None:
    sizes = replace(SIZES, picture=3 * side**2, shape=(1, 3, side, side))
    assert Place(card).decoded_at_once(sizes, WORK) == at_once
    assert Place(card).decoded_at_once(sizes, replace(WORK, decode_batch=3)) == min(at_once, 3)


def test_fewer_are_decoded_at_once_or_none_there() -> None:
    """Of the decode phase 8 x 900 are of eight samples; a decoder of 2,000 on the CPU leaves the card in all phases."""
    whole, few, away = (phases(SIZES, work, CARD) for work in (
        WORK, replace(WORK, decode_batch=3), replace(WORK, decoded_there=False)
    ))  # fmt: skip
    assert few[2].peak == whole[2].peak - 5 * 900 and few[1] == whole[1] and few[3] == whole[3]
    assert [a.peak - b.peak for a, b in zip(whole, away, strict=True)] == [2_000, 2_000, 2_000 + 7_200, 2_000]
    cpu = Place(accelerator=False)
    assert phases(SIZES, replace(WORK, decoded_there=False), cpu) == phases(SIZES, WORK, cpu)
