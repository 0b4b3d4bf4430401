"""A whole run of a Wan miniature: what is trained, shown, sampled and exported are clips."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import WanPipeline
from PIL import Image

import limner
from limner.algorithms.diffusion_nft import DiffusionNFT
from limner.algorithms.dpo import DPO
from limner.algorithms.flow_grpo import FlowGRPO
from limner.algorithms.kto import KTO
from limner.cli import main
from limner.continuation import sample_parts
from limner.core.media import Videos
from limner.core.types import Vocabulary
from limner.data.pairs import read_saved
from limner.diffusion.dynamics import EulerODE, FlowSDE
from limner.judges import compose
from limner.looping import Looping
from limner.models.wan.adapter import Wan
from limner.models.wan.build import WanSize, build
from limner.models.wan.settings import WanSettings
from limner.policies.denoising import Sampler
from limner.rounds import loop
from limner.training.config import Evaluation, Lora, Model, RunConfig
from limner.training.source import Preferences
from run.typed import typed

CHAPTER = "## I have clips, and know where each is better"
"""Of docs/preferences.md, whose commands are run here."""
OWN = """
from pathlib import Path

from run.test_wan_run import brief


def recipe():
    return brief(Path({place!r}), 9)
"""
CLIPS = WanSettings(resolution=32, num_frames=5, fps=8, max_sequence_length=8)


def test_clips_all_the_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Wan.tiny(tmp_path / "base")
    (tmp_path / "prompts.txt").write_text("a red star\na blue square\n")
    run = limner.train(
        RunConfig(
            name="clips",
            model=Model("wan", str(tmp_path / "base"), CLIPS, Lora(rank=2, alpha=4)),
            prompts=str(tmp_path / "prompts.txt"),
            reward="video_flicker",
            algorithm=DiffusionNFT(num_times=1),
            sampler=Sampler(EulerODE(), steps=2),
            evaluation=Evaluation(str(tmp_path / "prompts.txt"), seeds=1),
            steps=1,
            prompts_per_step=1,
            group_size=2,
            micro_batch=4,
            device="cpu",
            out=str(tmp_path / "run"),
        ),
        quiet=True,
    )
    assert set(re.findall(r"data:image/(\w+);", (run.folder / "report.html").read_text())) == {"webp"}
    assert main(["sample", str(run.folder), "a red star", "--out", str(tmp_path / "clip.gif")]) == 0
    with Image.open(tmp_path / "clip.gif") as clip:
        assert clip.size == (32, 32) and 1 < clip.n_frames <= 5
    parts = sample_parts(run, "a red star", 3, count=2, seed=4)  # one of two latent times is known, a frame
    whole = parts.rounded().frames()
    assert whole.shape == (2, 5 + 2 * 4, 3, 32, 32) and list(parts.seeds) == [4, 5]
    torch.testing.assert_close(whole[:, :5], run.sample("a red star", 2, 4).rounded().frames(), atol=0, rtol=0)
    command = ["sample", str(run.folder), "a red star", "--parts", "2", "--out", str(tmp_path / "long.webp")]
    for overlap, said in (("3", "one more than a multiple of 4"), ("5", "1 to 4 can overlap")):
        assert main([*command, "--overlap", overlap]) == 2 and said in capsys.readouterr().err
    card = (run.folder / "export" / "README.md").read_text()
    assert "pipeline_tag: text-to-video" in card and "num_frames=5" in card and ".frames[0]" in card
    pipeline = WanPipeline.from_pretrained(tmp_path / "base")
    pipeline.load_lora_weights(run.folder / "export")
    trained, model = Wan.wrap(pipeline, CLIPS), run.assembly.policy("policy").model
    condition, x = trained.encode([]), torch.randn(1, *trained.latent().shape)
    place, t = torch.zeros(1, dtype=torch.long), torch.tensor([0.5])
    with torch.no_grad():
        expected, found = (each.predict(x, t, condition, place) for each in (model, trained))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_clips_from_a_given_frame_all_the_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pictures travel with the prompts, from the file to the card; another picture is another input."""
    base = build(WanSize(Vocabulary(("red", "star")), layers=1, heads=1, encoder_channels=4, decoder_channels=4))
    base.register_to_config(expand_timesteps=True)
    base.save_pretrained(tmp_path / "base")
    first, prompts = tmp_path / "first.png", tmp_path / "prompts.jsonl"
    Image.new("RGB", (40, 40), "red").save(first)
    prompts.write_text('{"prompt": "a red star", "inputs": {"image": "first.png"}}\n')
    config = RunConfig(
        name="goes on",
        model=Model("wan", str(tmp_path / "base"), replace(CLIPS, first_frame=True), Lora(rank=2, alpha=4)),
        prompts=str(prompts),
        reward="video_flicker",
        algorithm=FlowGRPO(),
        sampler=Sampler(FlowSDE(), steps=2, guidance=2.0),
        evaluation=Evaluation(str(prompts), seeds=1),
        steps=1,
        prompts_per_step=1,
        group_size=2,
        micro_batch=4,
        device="cpu",
        out=str(tmp_path / "run"),
    )
    run = limner.train(config, quiet=True)
    asked = limner.Prompt("a red star", inputs={"image": str(first)})
    clip = run.sample(asked, count=1).media.frames()[0]
    given = run.assembly.model.encode([asked])["first"][:1]
    shown = run.assembly.model.decode(given.expand(-1, -1, 3, -1, -1)).frames()[0, 0]
    torch.testing.assert_close(clip[0], shown, atol=1 / 255, rtol=0)  # the first frame decodes from its latent alone
    out = str(tmp_path / "clip.webp")
    assert main(["sample", str(run.folder), "a red star", "--input", f"image={first}", "--out", out]) == 0
    card = (run.folder / "export" / "README.md").read_text()
    assert "pipeline_tag: image-to-video" in card and 'image=load_image("image.png")' in card
    assert main(["sample", str(run.folder), "a red star"]) == 2
    assert "brings no image" in capsys.readouterr().err
    Image.new("RGB", (40, 40), "blue").save(first)
    with pytest.raises(limner.UserError, match="prompts"):
        limner.train(replace(config, steps=2), resume=True, quiet=True)


def brief(place: Path, frames: int = CLIPS.num_frames) -> RunConfig:
    """Return one iteration of two clips, by the base and the prompts that lie in a folder."""
    return RunConfig(
        name="clips",
        model=Model("wan", str(place / "base"), replace(CLIPS, num_frames=frames), Lora(rank=2, alpha=4)),
        prompts=str(place / "prompts.txt"),
        algorithm=DiffusionNFT(num_times=1),
        sampler=Sampler(EulerODE(), steps=2),
        steps=1,
        prompts_per_step=1,
        group_size=2,
        micro_batch=4,
        device="cpu",
    )


def test_pairs_of_clips_teach_what_is_better(tmp_path: Path) -> None:
    """Clips that are made and judged by one command are the pairs of another; a pair of folders may hold MP4 files."""
    Wan.tiny(tmp_path / "base")
    (tmp_path / "prompts.txt").write_text("a red star\na blue square\n")
    config = replace(brief(tmp_path), reward="video_flicker", out=str(tmp_path / "run"))
    limner.train(config, quiet=True)
    made = str(tmp_path / "pairs")
    assert main(["pairs", "make", str(tmp_path / "run"), "--count", "4", "--out", made]) == 0
    offline = replace(config, algorithm=DPO(), source=Preferences(data=made), reward="", out=str(tmp_path / "dpo"))
    limner.train(offline, quiet=True)
    for side, shade in (("chosen", 0.2), ("rejected", 0.8)):
        (tmp_path / "two" / side).mkdir(parents=True)
        Videos(torch.full((1, 5, 3, 32, 32), shade), 8.0).save([tmp_path / "two" / side / "a_red_star.mp4"])
    folders = replace(offline, source=Preferences(data=str(tmp_path / "two")), out=str(tmp_path / "two-run"))
    assert limner.train(folders, quiet=True).state.iteration == 1
    parts = str(tmp_path / "parts")
    more = ["--count", "4", "--vary", "0.5", "--segment-frames", "2", "--out", parts]
    assert main(["pairs", "make", str(tmp_path / "run"), *more]) == 0
    rows = [json.loads(line) for line in (Path(parts) / "pairs.jsonl").read_text().splitlines()]
    assert rows and all(row["segment_frames"] == 2 and len(row["segments"]) == 3 for row in rows)
    assert all(any(row["segments"]) and row["segments"][1] == row["segments"][2] for row in rows)
    segments = replace(offline, source=Preferences(data=parts), out=str(tmp_path / "segments"))
    assert limner.train(segments, quiet=True).state.iteration == 1
    with pytest.raises(limner.UserError, match="KTO learns from clips as a whole"):
        limner.train(replace(segments, algorithm=KTO(), out=str(tmp_path / "kto")), quiet=True)


def test_the_pages_commands_about_clips_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they stand there, of a miniature: nine frames in segments of four, four pairs, one step."""
    make, train = typed("docs/preferences.md", CHAPTER)
    assert make[:2] == ["pairs", "make"] and train[:2] == ["train", "my_wan.py"]
    monkeypatch.chdir(tmp_path)
    Wan.tiny(tmp_path / "base")
    Path("prompts.txt").write_text("a red star\na blue square\n")
    limner.train(replace(brief(tmp_path, 9), reward="video_flicker", out="runs/my-wan"), quiet=True)
    make[make.index("--segment-frames") + 1] = "4"
    assert main([*make, "--count", "4"]) == 0
    rows = [json.loads(line) for line in Path("runs/pairs-wan/pairs.jsonl").read_text().splitlines()]
    assert rows and all(row["segment_frames"] == 4 and len(row["segments"]) == 3 for row in rows)
    Path("my_wan.py").write_text(OWN.format(place=str(tmp_path)))
    assert main([*train, "--out", "runs/dense", "--quiet"]) == 0
    config = Path("runs/dense/config.yaml").read_text()
    assert "runs/pairs-wan" in config and Path("runs/dense/report.html").exists()
    assert len(Path("runs/dense/metrics.jsonl").read_text().splitlines()) == 1


def test_a_loop_of_clips_with_a_judge(tmp_path: Path) -> None:
    """Clips are drawn, judged from their files as clips, learned from frame by frame, and trained against."""
    Wan.tiny(tmp_path / "base")
    texts = [f"a {colour} {shape}" for colour in ("red", "blue", "green") for shape in ("star", "square", "circle")]
    (tmp_path / "prompts.txt").write_text("\n".join(texts))
    config = replace(brief(tmp_path), reward="", micro_batch=16)
    learning = {"design.edge": 16, "design.width": 16, "design.members": 1, "epochs": 1, "frames": 2}
    learning |= {"heldout": 0.3, "calibration": 0.3}
    how = Looping(rounds=1, annotator="video_flicker", pairs=18, doubtful="train")
    place = loop(config, how, learning, tmp_path / "loop", quiet=True) / "round-1"
    asked = [json.loads(line) for line in (place / "asked.jsonl").read_text().splitlines()]
    votes = [json.loads(line) for line in (place / "votes.jsonl").read_text().splitlines()]
    assert len(votes) == 18 and {(row["frames"], row["media_a"][-5:]) for row in asked} == {(5, ".webp")}
    judge = compose("video_flicker")
    for row in votes[:4]:
        clips = [read_saved(place / row[f"media_{side}"], 5) for side in "ab"]
        score = judge(Videos(torch.stack(clips), row["fps"]), [limner.Prompt(row["prompt"])] * 2).score
        assert row["choice"] == ("a" if score[0] > score[1] else "b" if score[1] > score[0] else "tie")
    assert (place / "policy" / "export").is_dir() and (place / "reward" / "card.json").is_file()
