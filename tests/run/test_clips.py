"""A medium and a generator of another package, through a whole run: nothing above the models knows what it shows."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toy_clip import Clips, clips, motion

import limner
from limner.algorithms.diffusion_nft import DiffusionNFT
from limner.cli import main
from limner.core.types import Prompt
from limner.diffusion.dynamics import EulerODE
from limner.evaluate.store import load
from limner.judging.checked import Checked
from limner.judging.rows import from_rows
from limner.judging.wire import CONTENT_TYPE, KINDS, decode_answer, encode_request
from limner.policies.denoising import Sampler
from limner.recipes.named import recipe
from limner.rewards.remote import Remote
from limner.run import Run
from limner.serve.app import app
from limner.training.config import Evaluation, Full, Model, RunConfig
from serving import call, hosted

PROMPTS = [Prompt("a dog runs"), Prompt("rain"), Prompt("a red kite")]
REWARDS = """
from limner.judging.spec import declare
from limner.core.types import RewardSpec
from toy_clip import motion

motion = declare(RewardSpec("motion", "mean change a second", axes=("T", "C", "H", "W")))(motion)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("clips")
    (folder / "prompts.txt").write_text("\n".join(prompt.text for prompt in PROMPTS))
    (folder / "rewards.py").write_text(REWARDS)
    return limner.train(config(folder), quiet=True)


def config(folder: Path) -> RunConfig:
    return replace(
        recipe("scenes"),
        name="clips",
        model=Model("toy_clip:ToyClipSettings", "nowhere", train=Full()),
        prompts=str(folder / "prompts.txt"),
        reward=f"{folder / 'rewards.py'}:motion",
        reward_cache=str(folder / "cache"),
        algorithm=DiffusionNFT(num_times=2),
        sampler=Sampler(EulerODE(), steps=3),
        evaluation=Evaluation(str(folder / "prompts.txt"), seeds=2),
        steps=2,
        prompts_per_step=2,
        group_size=4,
        micro_batch=8,
        overlap=True,
        checkpoint_every=1,
        device="cpu",
        out=str(folder / "run"),
    )


def test_samples_are_stored_as_clips_with_stills(run: Run) -> None:
    place = run.folder / "samples" / "after-sampler"
    names = {f"{prompt:03d}-{seed}{suffix}" for prompt in range(3) for seed in range(2) for suffix in (".png", ".webp")}
    assert {path.name for path in place.iterdir()} == names | {"rewards.json"}
    media = run.sample(PROMPTS[1].text, count=2).media
    assert isinstance(media, Clips) and media.fps == 8 and media.pixels.dtype == torch.uint8
    for seed in range(2):
        clip = Image.open(place / f"001-{seed}.webp")
        frames = []
        for i in range(clip.n_frames):
            clip.seek(i)
            frames.append(np.asarray(clip.convert("RGB")))
        assert torch.equal(torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2), media.pixels[seed])
        still = np.array(Image.open(place / f"001-{seed}.png"))
        assert torch.equal(torch.from_numpy(still).permute(2, 0, 1), media.stills()[seed])
    judged = json.loads((place / "rewards.json").read_text())["rewards"][1]["reward"]
    torch.testing.assert_close(torch.tensor(judged), motion(media, [PROMPTS[1]] * 2))
    evaluation = load(place)
    assert evaluation is not None and evaluation.stills.shape == (3, 2, 3, 8, 8)
    assert evaluation.files[1, 0] == place / "001-0.webp" and len(evaluation.files) == 6


def test_the_report_moves(run: Run) -> None:
    page = (run.folder / "report.html").read_text()
    found = re.findall(r"data:image/(\w+);base64,([A-Za-z0-9+/=]+)", page)
    assert len(found) >= 6 and {kind for kind, _ in found} == {"webp"}
    shown = Image.open(io.BytesIO(base64.b64decode(found[0][1])))
    shown.load()
    assert shown.n_frames == 3 and shown.info["duration"] == 125 and 'width="8" height="8"' in page
    again = limner.open_run(run.folder, trust=True)
    assert again.report().read_text() == page and torch.equal(
        again.sample("rain").media.pixels, run.sample("rain").media.pixels
    )


def test_the_command_line_writes_clips(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["sample", str(run.folder), "rain", "--trust-code"]
    assert main(command) == 0 and main([*command, "--count", "2", "--out", str(tmp_path / "two.webp")]) == 0
    one, sheet = map(Path, capsys.readouterr().out.split())
    assert one == run.folder / "samples" / "rain-0.webp" and Image.open(one).n_frames == 3
    assert sheet == tmp_path / "two.png" and Image.open(sheet).size > (128, 64)
    assert (tmp_path / "two-0.webp").read_bytes() == one.read_bytes() != (tmp_path / "two-1.webp").read_bytes()
    assert main([*command, "--out", "x.png"]) == 2
    assert "--out needs a name that ends in .webp, got 'x.png'" in capsys.readouterr().err


def test_answers_about_clips_are_kept(run: Run) -> None:
    """Those of two iterations of 8, and of 6 before and 6 after; what is known is not asked about again."""
    with closing(sqlite3.connect(run.folder.parent / "cache" / "rewards.sqlite")) as database:
        (kept,) = database.execute("SELECT count(*) FROM answers WHERE name = 'motion'").fetchone()
        assert kept >= 28
        limner.train(replace(run.config, out=str(run.folder.parent / "again")), quiet=True)
        assert database.execute("SELECT count(*) FROM answers").fetchone() == (kept,)


def test_a_judge_elsewhere_is_asked_about_clips(run: Run) -> None:
    """By an application in this process and by one behind a socket; one that knows no clips refuses them."""
    media, prompts = run.sample("rain", count=3).media, [Prompt("rain")] * 3
    here = Checked("motion", motion)(media, prompts).score
    kinds = {**KINDS, "clips": clips}
    body = encode_request(media, prompts, 10)
    status, _, answer = asyncio.run(
        call(app(motion, "motion", kinds=kinds), "/v1/score", body, content_type=CONTENT_TYPE)
    )
    assert status == 200 and torch.equal(from_rows(decode_answer(answer, 3).rows).score, here)
    with hosted(motion, "motion", kinds=kinds) as url:
        assert torch.equal(Remote(url=url, micro_batch=2)(media, prompts).score, here)
    with hosted(motion, "motion") as url, pytest.raises(limner.UserError, match="judges media images, .* got 'clips'"):
        Remote(url=url)(media, prompts)
