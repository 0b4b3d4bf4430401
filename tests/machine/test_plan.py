"""Plans of models that are here, against what they are and what their runs do; of published ones, without a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from limner.build import assemble
from limner.cli import main
from limner.core.errors import UserError
from limner.core.protocols import Context
from limner.core.rng import Rng
from limner.core.team import ALONE
from limner.core.tree import leaves
from limner.core.types import Batch
from limner.machine import cost
from limner.machine.cost import sizes
from limner.machine.known import remembering
from limner.machine.memory import Place, phases
from limner.machine.plan import plan
from limner.models.piped import Family, Piped
from limner.models.sd3.adapter import SD3
from limner.models.wan.adapter import Wan
from limner.models.wan.build import tiny_experts, tiny_pipeline, tiny_seeing
from limner.models.wan.settings import WanSettings
from limner.recipes.named import recipe
from limner.recipes.override import override
from limner.registry.find import find
from limner.registry.names import ADAPTERS, PUBLISHED
from limner.training.config import Lora, Model, RunConfig
from limner.training.loop import Clock, update
from limner.training.workload import workload

SMALL = {"prompts_per_step": 2, "group_size": 4, "micro_batch": 8, "evaluation.prompts": "", "device": "cpu"}
RUNS = {
    "DiffusionNFT": {"algorithm.num_times": 2},
    "guided": {"algorithm": "FlowGRPO", "sampler.dynamics": "FlowSDE", "sampler.steps": 4, "sampler.guidance": 2.0},
    "penalty": {"algorithm": "FlowGRPO", "algorithm.kl_weight": 0.1, "sampler.dynamics": "FlowSDE", "sampler.steps": 4},
    "window": {
        "algorithm": "FlowGRPO", "sampler.dynamics": "FlowSDE", "sampler.steps": 4, "sampler.window": 2,
        "sampler.window_range": (1, 1), "sampler.shared_start": "true",
    },
    "tree": {"algorithm": "FlowGRPO", "sampler.dynamics": "FlowSDE", "sampler.steps": 4, "sampler.splits": (0, 1)},
    "pairs": {"algorithm": "DPO", "source": "Drawn", "sampler.dynamics": "EulerODE"},
    "groups": {"algorithm": "DGPO", "sampler.dynamics": "EulerODE"},
}  # fmt: skip


def small(**keys: object) -> RunConfig:
    return override(recipe("scenes"), {**SMALL, **keys})


@pytest.mark.parametrize("name", RUNS)
def test_evaluations_are_those_that_a_run_counts(name: str) -> None:
    """One iteration, in which every sample teaches."""
    config = small(**RUNS[name])
    parts = assemble(config).parts
    found, work = sizes(config), workload(config)
    scored = parts.source.scored(parts.studio, 0, 2, Rng((0,)), Clock(lambda phase: None, ALONE))
    drawn = parts.evaluations()
    assert work.groups * work.states * found.sampling.evaluations == drawn
    advantage = torch.ones(len(scored.rollout))
    advantage[::2] = -1
    update(parts, Batch(scored.rollout, advantage), Context(Rng((1,)), 0, config.micro_batch))
    assert work.groups * work.taught * found.learning.evaluations == parts.evaluations() - drawn


def test_what_several_ways_have_in_common_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints change learning alone, codes all that the network takes; what is remembered changes no number."""
    every = [small(), small(**{"precision.activation_checkpointing": True}), small(**{"model.quantize": "nf4"})]
    alone = [sizes(config) for config in every]
    measured: list[tuple[int, ...]] = []
    real = cost._Rehearsal._cost

    def counted(self: Any, run: Any, few: tuple[int, ...] = ()) -> Any:
        measured.append(few)
        return real(self, run, few)

    monkeypatch.setattr(cost._Rehearsal, "_cost", counted)
    with remembering():
        assert [sizes(config) for config in every] == alone
        assert sizes(override(every[0], {"sampler.keep": "host", "model.decode_batch": 1})) is not None
    once, several = [few for few in measured if few], [few for few in measured if not few]
    assert len(once) == 1 and len(several) == 2 + 1 + 2  # decoding; sampling and learning


def test_ways_that_a_model_does_not_see_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where decisions wait and how many samples are decoded at once change nothing of what passes take."""
    made: list[RunConfig] = []
    monkeypatch.setattr(cost, "_sized", lambda config: made.append(config) or len(made))
    host = {"sampler.keep": "host", "model.decode_batch": 1, "model.encoders": "cpu", "prompts_per_step": 1}
    with remembering():
        assert sizes(small()) == sizes(small(**host)) == 1
        assert sizes(small(**{"precision.activation_checkpointing": True})) == 2
        assert sizes(small(**{"model.quantize": "nf4"})) == 3
    assert sizes(small()) == 4 and sizes(small()) == 5


def test_sizes_are_those_of_the_model() -> None:
    config = small()
    found, made = sizes(config), assemble(config)
    weights, pipeline = made.parts.weights, vars(made.model)["pipeline"]
    parameters = [*pipeline.transformer.parameters(), *pipeline.transformer.buffers()]
    assert found.trained == sum(each.numel() for each in weights.parameters().values())
    assert found.lora == 2 * 4 * found.trained  # the old policy is a second adapter
    assert found.networks + found.lora == sum(each.nbytes for each in parameters)
    assert found.decoder == sum(each.nbytes for each in (*pipeline.vae.parameters(), *pipeline.vae.buffers()))
    assert found.latent == tuple(made.model.latent().shape) and found.shape == (1, 3, 64, 64)


def test_a_coded_base_is_as_large_as_it_is() -> None:
    """Codes and scales are counted, and the numbers made of them are of a pass, a layer at a time: none is kept."""
    half = {"precision.dtype": "bfloat16"}
    coded = half | {"model.quantize": "nf4"}
    found, whole = sizes(small(**coded)), sizes(small(**half))
    network = vars(assemble(small(**coded)).model)["pipeline"].transformer
    held = {n: each for n, each in (*network.named_parameters(), *network.named_buffers()) if ".lora_" not in n}
    assert found.networks == sum(each.nbytes for each in held.values()) < 0.4 * whole.networks
    assert found.lora == whole.lora and found.learning.bytes(8) < 1.05 * whole.learning.bytes(8)


def test_checkpoints_take_less_and_compute_more() -> None:
    plain, less = sizes(small()), sizes(small(**{"precision.activation_checkpointing": "true"}))
    assert less.learning.each < 0.6 * plain.learning.each and less.learning.flops > 1.2 * plain.learning.flops
    assert less.sampling == plain.sampling


def test_a_plan_in_an_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Of a published checkpoint, by nothing but its facts."""
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "sd15", "--card", "24", "--processes", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sizes"]["networks"] == pytest.approx(2 * 859_520_964, rel=1e-4)
    assert found["sizes"]["decoder"] == 4 * 83_653_863 and found["sizes"]["trained"] == 797_184
    assert found["work"]["samples"] == 256 and found["work"]["share"] == 128 and found["accelerator"]
    assert found["sizes"]["sampling"]["flops"] / 2 == pytest.approx(0.80e12, rel=0.05)  # 401 billion products
    assert not list(tmp_path.iterdir())


def test_a_run_on_this_machine_is_told(capsys: pytest.CaptureFixture) -> None:
    found = plan(small())
    assert not found.place.accelerator and found.place.imported > 0 and not found.ways
    assert found.total(found.evaluations) == 72 * (80 + 2 * 12 * 2)
    assert main(["plan", "scenes", "--evaluation.prompts="]) == 0
    said = capsys.readouterr().out
    assert "12 groups x 12 samples = 144 samples" in said and "in this machine's memory, predicted;" in said


def test_what_a_process_takes_is_predicted() -> None:
    """Each in a process of its own, and each tensor in pages of its own: glibc's heap has holes besides."""
    own = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    keys = ["--algorithm", "FlowGRPO", "--sampler.dynamics", "FlowSDE", "--micro_batch", "72", "--device", "cpu"]
    run, planned = (
        subprocess.run([sys.executable, *command], env=own, check=True, capture_output=True, text=True).stdout
        for command in (["benchmarks/memory.py", "--one", "Flow-GRPO", "10"], ["-m", "limner", "plan", "scenes", *keys])
    )
    (row,) = (line.split() for line in planned.splitlines() if line.startswith("peak ") and "GiB" not in line)
    measured = json.loads(run.splitlines()[-1])["peak_mib"]
    assert 0.85 < max(float(each.replace(",", "")) for each in row[1:]) / measured < 1.15


def test_more_processes_than_groups() -> None:
    with pytest.raises(Exception, match="3 processes share whole groups, but an iteration has 2"):
        plan(small(), processes=3)


def test_of_processes_each_draws_its_share() -> None:
    one, two = plan(small(), processes=1), plan(small(), processes=2)
    assert (one.work.share, two.work.share) == (8, 4) and one.evaluations == two.evaluations
    assert replace(one.work, processes=2) == two.work


@pytest.mark.parametrize("kind", sorted(PUBLISHED))
def test_a_plan_of_every_kind_of_denoiser(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of its miniature; what a prompt takes is what it does when it is encoded, whatever its words."""
    adapter = find(ADAPTERS, "model kind", kind)
    model = Piped.tiny(adapter) if isinstance(adapter, Family) else adapter.tiny()
    with cost._asked(model) as prompt:
        encoded = model.encode([prompt])
    shown = model.decode(torch.zeros(1, *model.latent().shape)).frames().shape[1:]
    monkeypatch.setattr(cost, "blueprint", lambda path: (model.pipeline.to("meta"), kind, "a miniature"))
    changes = {"algorithm": "FlowGRPO", "sampler.dynamics": "DDIM" if kind == "sd" else "FlowSDE", "sampler.steps": 4}
    config = replace(small(**changes), model=Model(kind, "miniature", model.settings, Lora(rank=4)))
    found = sizes(config)
    assert found.condition == sum(each[:1].nbytes for each in leaves(encoded))
    assert found.latent == tuple(model.latent().shape) and found.shape == tuple(shown)
    assert found.sampling.evaluations == found.learning.evaluations == 1
    assert 0 < found.sampling.flops < found.learning.flops and found.encoding.flops > 0


def test_of_two_experts_each_latent_meets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wan 2.2 has two networks of the same size, for the noisier times and the others: twice the weights, no more."""
    settings = WanSettings(resolution=32, num_frames=5, max_sequence_length=16)
    changes = {"algorithm": "FlowGRPO", "sampler.dynamics": "FlowSDE", "sampler.steps": 4}
    config = replace(small(**changes), model=Model("wan", "miniature", settings, Lora(rank=4)))
    found = []
    for pipeline in (tiny_pipeline(), tiny_experts()):
        monkeypatch.setattr(cost, "blueprint", lambda path, made=pipeline: (made.to("meta"), "wan", "a miniature"))
        found.append(sizes(config))
    one, two = found
    assert (two.networks, two.lora) == (2 * one.networks, 2 * one.lora)
    assert (two.sampling.flops, two.learning.flops) == (one.sampling.flops, one.learning.flops)
    assert two.learning.each == pytest.approx(one.learning.each, rel=1e-3)  # a byte says whose a latent is


def test_what_sees_a_first_frame_stays(tmp_path: Path) -> None:
    """Of a folder of Wan 2.1's image to video: its bytes are those of the encoder of images, in every phase, and
    what is encoded of a prompt is as large as a run makes it."""
    settings = WanSettings(resolution=32, num_frames=5, max_sequence_length=16)
    pipeline = tiny_seeing()
    pipeline.save_pretrained(tmp_path)
    changes = {"algorithm": "FlowGRPO", "sampler.dynamics": "FlowSDE", "sampler.steps": 4}
    config = replace(small(**changes), model=Model("wan", str(tmp_path), settings, Lora(rank=4)))
    found = sizes(config)
    seeing = pipeline.image_encoder
    assert found.sight == sum(each.nbytes for each in (*seeing.parameters(), *seeing.buffers()))
    model = Wan.load(tmp_path, settings)
    with cost._asked(model) as prompt:
        encoded = model.encode([prompt])
    assert encoded["seen"].shape == (2, 1, 5, 8)
    assert found.condition == sum(each[:1].nbytes for each in leaves(encoded))
    every = phases(found, workload(config), Place(accelerator=True))
    assert all(phase.bytes["sight"] == found.sight for phase in every)


def test_a_network_whose_size_only_numbers_tell_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SD3, "predict", lambda model, x, t, condition, index: x.unique())
    with pytest.raises(UserError, match="a StableDiffusion3Pipeline computes with as many tokens as numbers tell"):
        sizes(small())


def test_an_encoding_whose_size_only_numbers_tell_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SD3, "encode", lambda model, prompts: {"context": torch.ones(3).unique()})
    with pytest.raises(
        UserError, match="what a StableDiffusion3Pipeline makes of a text has a size that cannot be told"
    ):
        sizes(small())
