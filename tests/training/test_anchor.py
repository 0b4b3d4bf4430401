"""The data anchor: its loss by hand, its data, and a run that uses it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import limner
from limner.core.errors import UserError
from limner.core.media import Images
from limner.core.rng import Rng
from limner.core.types import Prompt
from limner.data.pairs import read_pairs, read_picture
from limner.diffusion.dynamics import CPS, EulerODE
from limner.models.sd.adapter import SD
from limner.models.sd3.adapter import SD3
from limner.models.sd3.settings import SD3Settings
from limner.policies.denoising import Sampler
from limner.report.metrics import read
from limner.training.anchor import OnData, OnTeacher
from limner.training.config import DataAnchor, Optimizer
from limner.training.distill import CHAINS, Pairs
from limner.training.source import Pictures
from run.miniature import FLOW_GRPO, Miniature, make_miniature
from toys import toy_denoiser, toy_studio


def test_it_is_the_mean_error_over_drawn_pairs_whatever_the_micro_batch() -> None:
    """weight x mean |v(x_t, t, c) - (noise - x0)|^2 / D, with v written out for the toy network."""
    model = toy_denoiser(1)
    latents = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    prompts = [Prompt(str(i + 1)) for i in range(5)]
    anchor = OnData(Pictures("data"), weight=0.3, batch=7)
    policy, rng = Sampler(EulerODE(), 4).policy(model), Rng(("anchor",))
    whole, parts = (
        list(anchor.losses(toy_studio(policy, lambda data, count: (latents, prompts), size), policy, rng))
        for size in (100, 3)
    )
    assert len(whole) == 1 and len(parts) == 3
    rows = torch.randint(5, (7,), generator=rng.child("rows").generator())
    u = rng.child("times").uniform(torch.arange(7), (1,))[:, 0]
    t, noise = torch.sigmoid(torch.special.ndtri(u)), rng.child("noise").normal(torch.arange(7), (1, 3))[:, 0]
    x = (1 - t)[:, None] * latents[rows] + t[:, None] * noise
    net = model.network
    v = net.scale * x + net.drift * t[:, None] + net.word[rows + 1]
    expected = 0.3 * (v - (noise - latents[rows])).square().mean(1).mean()
    torch.testing.assert_close(whole[0], expected)
    torch.testing.assert_close(sum(parts), expected)
    mine, theirs = (torch.autograd.grad(loss, net.word)[0] for loss in (sum(parts), expected))
    torch.testing.assert_close(mine, theirs)


def test_of_a_student_it_is_the_error_of_its_distillation_whatever_the_micro_batch() -> None:
    """weight x mean |x - t v(x, t, c) - x0|^2 / D over drawn pairs, with v written out for the toy network."""
    model, draw = toy_denoiser(1), torch.Generator().manual_seed(0)
    x, x0 = torch.randn(6, 3, generator=draw), torch.randn(6, 3, generator=draw)
    t, prompt = torch.rand(6, generator=draw), torch.tensor([0, 1, 1, 0, 1, 0])
    anchor = OnTeacher(Pairs(x, t, x0, prompt), [Prompt("1"), Prompt("3")], weight=0.3, batch=7)
    policy, rng = Sampler(CPS(1.0), 4).policy(model), Rng(("anchor",))
    whole, parts = (list(anchor.losses(toy_studio(policy, None, size), policy, rng)) for size in (100, 3))
    assert len(whole) == 1 and len(parts) == 3
    rows = torch.randint(6, (7,), generator=rng.generator())
    net, word = model.network, torch.tensor([1, 3])[prompt[rows]]
    v = net.scale * x[rows] + net.drift * t[rows, None] + net.word[word]
    expected = 0.3 * (x[rows] - t[rows, None] * v - x0[rows]).square().mean(1).mean()
    torch.testing.assert_close(whole[0], expected)
    torch.testing.assert_close(sum(parts), expected)
    mine, theirs = (torch.autograd.grad(loss, net.word)[0] for loss in (sum(parts), expected))
    torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("adapter", [SD3.tiny(), SD.tiny("sd15"), SD.tiny("sdxl")], ids=["sd3", "sd15", "sdxl"])
def test_latents_of_pictures_are_on_the_scale_of_decode(adapter: SD3 | SD) -> None:
    """Encoded and decoded: what the autoencoder itself makes of the picture."""
    pictures = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    latents = adapter.encode_media(Images(pictures))
    assert latents.shape == (3, *adapter.latent().shape) and not latents.requires_grad
    vae = adapter.pipeline.vae
    with torch.no_grad():
        expected = vae.decode(vae.encode(2 * pictures - 1).latent_dist.mean).sample
        torch.testing.assert_close(adapter.decode(latents).pixels, (expected / 2 + 0.5).clamp(0, 1), atol=1e-5, rtol=0)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    lines = []
    for i, colour in enumerate(("red", "blue")):
        Image.new("RGB", (40, 60), colour).save(folder / f"{i}.png")
        lines.append(json.dumps({"file_name": f"{i}.png", "text": f"a {colour} star"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n\n")
    return folder


def test_a_folder_of_pictures(pictures: Path) -> None:
    (red, first), (_, second) = read_pairs(pictures)
    assert (first.text, second.text) == ("a red star", "a blue star")
    torch.testing.assert_close(read_picture(red, 32, 32), torch.tensor([1.0, 0, 0]).view(3, 1, 1).expand(3, 32, 32))
    half = Image.new("RGB", (60, 30), "black")
    half.paste("white", (15, 0, 45, 30))
    half.save(pictures / "half.png")
    assert read_picture(pictures / "half.png", 16, 16).min() > 0.9  # the middle; Lanczos rings at its edge


def test_what_is_wrong_with_a_folder_is_said(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no metadata.jsonl"):
        read_pairs(tmp_path)
    for line, message in (
        ("{", "line 3: not JSON"),
        ('{"file_name": "0.png"}', "line 3: no key.*text"),
        ('{"file_name": "9.png", "prompt": "x"}', "picture .*9.png cannot be read: No such file"),
    ):
        (pictures / "metadata.jsonl").write_text('{"file_name": "0.png", "prompt": "x"}\n\n' + line)
        with pytest.raises(UserError, match=message):
            read_pairs(pictures)
    (pictures / "metadata.jsonl").write_text("")
    with pytest.raises(UserError, match="names no picture"):
        read_pairs(pictures)
    (pictures / "bad.png").write_text("no picture")
    with pytest.raises(UserError, match="cannot be read"):
        read_picture(pictures / "bad.png", 8, 8)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    return make_miniature(tmp_path_factory.mktemp("anchored"))


def require_learned(small: Miniature, data: Path, out: Path) -> None:
    """Train with an anchor on `data`, and require that its error falls by a tenth."""
    config = small.config(
        out,
        reward="redness",
        anchor=DataAnchor(str(data), weight=1.0, batch=16),
        optimizer=Optimizer(lr=2e-2),
        steps=12,
        checkpoint_every=12,
    )
    limner.train(config, quiet=True)
    errors = [line["anchor"] for line in read(out)]
    assert sum(errors[-4:]) < 0.9 * sum(errors[:4])


def test_a_run_learns_its_data(small: Miniature, pictures: Path, tmp_path: Path) -> None:
    """With a constant reward only the anchor teaches, and its error falls; without one nothing moves."""
    require_learned(small, pictures, tmp_path / "run")


def test_a_student_learns_its_teacher_s_pairs(small: Miniature, tmp_path: Path) -> None:
    """As above, with the pairs that a distillation kept, and the prompts that it names."""
    teacher, draw = tmp_path / "teacher", torch.Generator().manual_seed(0)
    teacher.mkdir()
    (teacher / "config.yaml").write_text(f"prompts: {small.prompts}\n")
    shape = (8, *SD3.load(small.model, SD3Settings(max_sequence_length=16)).latent().shape)
    x, x0 = torch.randn(shape, generator=draw), torch.randn(shape, generator=draw)
    pairs = Pairs(x, torch.linspace(0.5, 1, 8), x0, torch.arange(8) % 2)
    torch.save(pairs._asdict(), teacher / CHAINS)
    require_learned(small, teacher / CHAINS, tmp_path / "run")


def test_pictures_alone_teach(small: Miniature, pictures: Path, tmp_path: Path) -> None:
    """As a source they are the ordinary loss: its error falls, and no sample is drawn."""
    config = small.config(
        tmp_path / "run",
        source=limner.Pictures(str(pictures)),
        algorithm=limner.RewardWeighted(weight="reward", num_times=2),
        optimizer=Optimizer(lr=2e-2),
        steps=12,
        checkpoint_every=12,
        prompts_per_step=8,
        group_size=1,
    )
    limner.train(config, quiet=True)
    lines = read(tmp_path / "run")
    errors = [line["error"] for line in lines]
    assert sum(errors[-4:]) < 0.9 * sum(errors[:4]) and lines[0]["reward/given"] == 1
    assert lines[-1]["network_evaluations"] == 12 * 8 * 2


def test_what_cannot_be_anchored_is_refused(small: Miniature, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs anchor.data"):
        DataAnchor(weight=0.1)
    with pytest.raises(UserError, match="TRPO takes its own"):
        small.config(
            tmp_path,
            algorithm=limner.TRPO(),
            sampler=replace(FLOW_GRPO["sampler"]),
            anchor=DataAnchor("scenes", weight=0.1),
        )
    Image.new("RGB", (64, 64), "red").save(pictures / "0.png")
    (pictures / "0.png").write_bytes((pictures / "0.png").read_bytes()[:-30])
    with pytest.raises(UserError, match="0.png cannot be read: image file is truncated"):
        limner.check(
            small.config(tmp_path, sampler=Sampler(EulerODE(), 4), anchor=DataAnchor(str(pictures), weight=0.1))
        )
    for nowhere, message in (("/nowhere", "no metadata.jsonl"), (f"/nowhere/{CHAINS}", "limner distill wrote")):
        anchor = DataAnchor(nowhere, weight=0.1)
        with pytest.raises(UserError, match=message):
            limner.check(small.config(tmp_path, sampler=Sampler(EulerODE(), 4), anchor=anchor))
