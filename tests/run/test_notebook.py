"""What a notebook shows of a run and of its samples."""

from __future__ import annotations

import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import limner
from architecture.source import ROOT
from limner.core.media import to_image
from limner.evaluate.tables import tables
from limner.report.html import Report, render
from limner.report.text import difference, verdict
from limner.results import stored
from limner.run import Run
from limner.training.config import Evaluation
from report.test_html import Page
from run.miniature import Miniature


@pytest.fixture(scope="module")
def run(miniature: Miniature, tmp_path_factory: pytest.TempPathFactory) -> Run:
    texts = [f"{count} {colour} star" for count in ("a", "one", "two") for colour in ("red", "blue")]
    config = miniature.config(tmp_path_factory.mktemp("notebook") / "run", evaluation=Evaluation(seeds=2, every=1))
    return limner.train(config, heldout=texts, quiet=True)


def test_a_run_is_a_small_card(run: Run) -> None:
    card = run._repr_html_()
    assert len(card.encode()) < 100_000
    page = Page(card)
    classes = {value for tag, attributes in page.tags for name, value in attributes.items() if name == "class"}
    assert {"limner", "chart", "body"} <= classes and [tag for tag, _ in page.tags].count("img") == 2 * 4
    assert all(not str(a.get("src", "data:")).startswith("http") for _, a in page.tags), "it loads nothing"
    before, after = (stored(run.folder, moment, ["sampler"])["sampler"].reward for moment in ("before", "after"))
    assert f"miniature, seed 0: {difference((after - before).mean().item(), 'number')}" in page.words
    assert "3 of 3 iterations by DiffusionNFT; report: " in page.words and "Held-out prompts" in page.words
    assert "6 prompts, the same seeds before and after" in page.words


def test_the_card_has_room_for_large_pictures_and_long_runs(run: Run, tmp_path: Path) -> None:
    """Noise, which no compression helps, and 5,000 iterations."""
    folder = shutil.copytree(run.folder, tmp_path / "run")
    generator = torch.Generator().manual_seed(0)
    for place in folder.glob("samples/*/*.png"):
        to_image(torch.randint(256, (3, 512, 512), generator=generator, dtype=torch.uint8)).save(place)
    lines = [
        {"step": i, "reward/mean": i / 7, "reward/std": 0.123456789, "heldout/overall": i / 9} for i in range(5000)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert len(Run(folder, run.assembly, run.state)._repr_html_().encode()) < 100_000


def test_a_run_that_has_not_ended_shows_how_far_it_is(miniature: Miniature, tmp_path: Path) -> None:
    run = limner.train(miniature.config(tmp_path / "run"), quiet=True)
    (tmp_path / "run" / "report.html").unlink()
    words = Page(run._repr_html_()).words
    assert "3 of 3 iterations by DiffusionNFT" in words and "report" not in words and "Reward" in words


def test_a_run_names_itself_shortly(run: Run) -> None:
    assert repr(run) == f"Run({str(run.folder)!r}, 3 of 3 iterations)"


def test_samples_show_themselves(run: Run) -> None:
    samples = run.sample("a red star", count=3, seed=5)
    assert len(samples) == 3 and repr(samples) == "Samples('a red star', seeds 5, 6, 7)"
    for picture, still in zip(samples.pil(), samples.stills(), strict=True):
        assert picture.size == (32, 32) and list(picture.tobytes()[:3]) == still[:, 0, 0].tolist()
    sheet = Image.open(io.BytesIO(samples._repr_png_()))
    assert sheet.format == "PNG" and sheet.size == samples.sheet().size
    assert len(repr(run.sample("a red star", count=40))) < 100


def test_the_sheet_of_large_samples_is_no_larger_than_a_page(run: Run) -> None:
    large = limner.Images(torch.zeros(8, 3, 512, 512))
    sheet = Image.open(io.BytesIO(type(run.sample("a", count=1))(large, "a", range(8))._repr_png_()))
    assert max(sheet.size) == 1600


def test_samples_are_media(run: Run, tmp_path: Path) -> None:
    samples = run.sample("a red star", count=2)
    samples.save([tmp_path / "a.png", tmp_path / "b.png"])
    assert Image.open(tmp_path / "b.png").tobytes() == samples.pil()[1].tobytes()
    assert samples.suffixes == (".png",) and samples.frames().shape == (2, 1, 3, 32, 32)
    assert torch.equal(samples.rounded().stills(), samples.stills())


def test_the_page_and_the_card_say_the_same(run: Run) -> None:
    rows, _ = tables(stored(run.folder, "before", ["sampler"]), stored(run.folder, "after", ["sampler"]))
    sentence = Page(render(Report("x", rows=rows))).words
    assert str(verdict(rows[0])) in sentence


def test_a_run_says_first_what_it_will_take_and_last_what_it_gained(
    miniature: Miniature, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The estimate of network evaluations, which takes no clock, is right."""
    config = miniature.config(tmp_path / "run", evaluation=Evaluation(seeds=2))
    run = limner.train(config, heldout=[f"a {word} star" for word in ("red", "blue", "one", "two", "green", "star")])
    first, *_, last = capsys.readouterr().err.splitlines()
    drawn = 2 * 6 * 2 * 4  # before and after, prompts, seeds, steps
    assert re.fullmatch(
        rf"This will take about .* {drawn + run.state.evaluations} network evaluations, and .* MiB.", first
    )
    assert last.startswith("Held-out prompts ") and last.endswith(f" Report: {run.folder / 'report.html'}")
    assert "6 prompts, the same seeds before and after." in last
    limner.train(replace(config, out=str(tmp_path / "quiet")), quiet=True)
    assert "This will take" not in capsys.readouterr().err


def test_tensorboard_shows_held_out_pictures(run: Run) -> None:
    events = EventAccumulator(str(run.folder / "tensorboard")).Reload()
    assert [shown.step for shown in events.Images("heldout")] == [0, 1, 2]
    told = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert (run.folder / "config.yaml").read_text() in told


BLOCKS = re.compile(r"```python\n(.*?)```", re.S)


def test_the_page_runs_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All its code, one cell after the other, on a run of one small iteration."""
    monkeypatch.chdir(tmp_path)
    cells = BLOCKS.findall((ROOT / "docs" / "notebook.md").read_text(encoding="utf-8"))
    assert len(cells) >= 4
    small = {"steps": "1", "prompts_per_step": "1", "group_size": "2", "micro_batch": "8"}
    small |= {
        "sampler.steps": "2",
        "algorithm.num_times": "1",
        "evaluation.seeds": "1",
        "evaluation.every": "0",
        "evaluation.ode_steps": "0",
    }
    whole = limner.recipe

    def recipe(name: str) -> limner.RunConfig:
        return limner.override(whole(name), small) if name == "scenes" else whole(name)

    for place in ("limner.objects.recipe", "limner.recipes.named.recipe"):
        monkeypatch.setattr(place, recipe)
    found: dict[str, object] = {}
    for i, cell in enumerate(cells):
        file = tmp_path / f"cell{i}.py"
        file.write_text(cell)
        exec(compile(cell, str(file), "exec"), found)
    run = found["run"]
    assert isinstance(run, Run) and run._repr_html_()
