"""VideoReward's network in miniature, against peft's model of transformers' own Qwen2-VL and the formulas by hand."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

import tiny_videoalign
import tiny_vision
from limner.core.errors import UserError
from limner.core.media import Images, Videos
from limner.core.types import Prompt
from limner.judges import compose
from limner.rewards.videoalign.folder import read_trained
from limner.rewards.videoalign.network import load
from limner.rewards.videoalign.reward import VideoAlign
from limner.rewards.videoalign.sight import chosen, fitted, patches, resized
from limner.rewards.vision.preprocess import CLIP
from tiny_videoalign import Published, publish

PROMPTS = [Prompt("a red cat"), Prompt("a blue dog left of a cat")]
MEANS, STDS = [0.3, -0.2, 0.1], [2.0, 0.5, 1.5]


def clips(height: int = 336, width: int = 308, count: int = 16) -> Tensor:
    """Return two clips in levels, whose size needs no change: 16 frames, of which 4 are seen at 8 a second."""
    rng = np.random.default_rng(5)
    coarse = torch.from_numpy(rng.integers(0, 256, (2, count, 3, height // 28, width // 28), dtype=np.uint8))
    return coarse.repeat_interleave(28, -1).repeat_interleave(28, -2)


def seen(clip: Tensor, places: list[int]) -> np.ndarray:
    return clip[places].permute(0, 2, 3, 1).contiguous().numpy()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish(tmp_path_factory.mktemp("videoalign"))


def test_it_is_a_head_on_the_states_of_three_tokens(published: Published) -> None:
    """And not with Qwen2-VL's own positions in time, rows and columns: the authors' code counts along the sequence."""
    media = Videos(clips(), 8)
    output = VideoAlign(str(published.folder))(media, PROMPTS)
    raw = VideoAlign(str(published.folder), normalised=False)(media, PROMPTS)
    for i, prompt in enumerate(PROMPTS):
        frames = seen(media.values[i], [0, 5, 10, 15])
        expected = published.raw(frames, prompt.text)
        parts = (expected - torch.tensor(MEANS)) / torch.tensor(STDS)
        for j, name in enumerate(("vq", "mq", "ta")):
            assert output.components[name][i].item() == pytest.approx(parts[j].item(), rel=1e-3, abs=1e-4)
            assert raw.components[name][i].item() == pytest.approx(expected[j].item(), rel=1e-3, abs=1e-4)
        assert output.score[i].item() == pytest.approx(parts.sum().item(), rel=1e-3, abs=1e-4)
        assert raw.score[i].item() == pytest.approx(expected.sum().item(), rel=1e-3, abs=1e-4)
        assert (expected - published.raw(frames, prompt.text, sequential=False)).abs().max() > 0.01
    spread = torch.stack(list(raw.components.values()))
    assert (spread[:, 0] - spread[:, 1]).abs().min() > 1e-3 and spread[:, 0].std() > 1e-2


@pytest.mark.parametrize(
    ("outputs", "low_rank", "old_names", "by_root"),
    [(3, False, False, False), (1, True, True, False), (1, True, False, True)],
)
def test_other_heads_and_layouts(tmp_path: Path, outputs: int, low_rank: bool, old_names: bool, by_root: bool) -> None:
    """Of a head with three outputs each token has its own; updates and what else was trained may lie apart."""
    made = publish(tmp_path, outputs, low_rank, old_names, by_root)
    media = Videos(clips()[:1], 8)
    output = VideoAlign(str(made.folder), normalised=False)(media, PROMPTS[:1])
    expected = made.raw(seen(media.values[0], [0, 5, 10, 15]), PROMPTS[0].text)
    torch.testing.assert_close(torch.cat(list(output.components.values())), expected, rtol=1e-3, atol=1e-4)


def test_a_dimension_is_a_component_of_an_expression(published: Published) -> None:
    media = Videos(clips()[:1], 8)
    judge = f"videoalign(folder='{published.folder}')"
    whole, motion = (compose(text)(media, PROMPTS[:1]).score.item() for text in (judge, f"{judge}.mq"))
    output = VideoAlign(str(published.folder))(media, PROMPTS[:1])
    assert whole == pytest.approx(output.score.item(), rel=1e-4)
    assert motion == pytest.approx(output.components["mq"].item(), rel=1e-4)


def test_what_is_not_finite_is_not_judged(published: Published) -> None:
    frames = clips().float() / 255
    frames[1, 3, 0, 0, 0] = torch.nan
    output = VideoAlign(str(published.folder))(Videos(frames, 8), PROMPTS)
    assert output.valid.tolist() == [True, False] and output.score[1].isnan()


def test_levels_are_rounded_and_numbers_have_gradients(published: Published) -> None:
    """The slope along the gradient is that of differences; of levels what is scaled are levels again."""
    judge = VideoAlign(str(published.folder))
    frames = (0.2 + 0.6 * torch.rand(1, 4, 3, 60, 50, generator=torch.Generator().manual_seed(0))).requires_grad_()
    (gradient,) = torch.autograd.grad(judge(Videos(frames, 2), PROMPTS[:1]).score.sum(), frames)
    assert (gradient != 0).float().mean() > 0.99
    step = 0.05 * gradient / gradient.norm()
    ahead, behind = (judge(Videos((frames + sign * step).detach(), 2), PROMPTS[:1]).score.item() for sign in (1, -1))
    assert (ahead - behind) / 0.1 == pytest.approx(gradient.norm().item(), rel=0.02)
    small = frames.detach()[0]
    assert (255 * resized(small, 336, 280, True)).frac().abs().max() < 1e-3
    assert (255 * resized(small, 336, 280, False)).frac().abs().max() > 0.4


def authors(count: int, fps: float, rate: float) -> list[int]:
    """Return the frames by the formula of the authors' code, with its bounds, in numpy."""
    wanted = min(max(count / fps * rate, 4), min(768, count) // 2 * 2)
    return np.linspace(0, count - 1, round(wanted / 2) * 2).round().astype(int).tolist()


@pytest.mark.parametrize(
    ("count", "fps", "rate", "number"),
    [
        (81, 16, 2, 10),
        (49, 8, 2, 12),
        (121, 24, 2, 10),
        (24, 16, 2, 4),
        (10, 2, 2, 10),
        (129, 25, 2, 10),
        (90, 30, 4, 12),
    ],
)
def test_frames_are_the_authors(count: int, fps: float, rate: float, number: int) -> None:
    found = chosen(count, fps, rate)
    assert found == authors(count, fps, rate) and len(found) == number
    assert found[0] == 0 and found[-1] == count - 1


@pytest.mark.parametrize(
    ("count", "fps", "why"),
    [
        (20, 1.5, "by 2 frames a second, and these have 1.5: say in model.settings.fps"),
        (17, 16, "4 to 768 frames of a clip, 2 of each second, and 17 at 16 a second leave 2: give longer clips"),
        (1, 8, "leave 0: give longer clips"),
        (20000, 24, "leave 1666: give shorter clips"),
        (11, 2, "12 of 11 at 2 a second are not evenly spaced"),
        (9, 2, "8 of 9 at 2 a second are not evenly spaced"),
        (15, 3, "10 of 15 at 3 a second are not evenly spaced, .* show clips at 4 a second or more"),
    ],
)
def test_another_rate_is_refused(published: Published, count: int, fps: float, why: str) -> None:
    with pytest.raises(UserError, match=why):
        chosen(count, fps, 2)
    if count < 100:
        with pytest.raises(UserError, match=why):
            VideoAlign(str(published.folder))(Videos(torch.zeros(1, count, 3, 28, 28), fps), PROMPTS[:1])


def test_sizes_are_those_of_transformers() -> None:
    rng = np.random.default_rng(0)
    for height, width in [*rng.integers(20, 1500, (200, 2)).tolist(), (448, 448), (480, 832), (30, 2000)]:
        size = smart_resize(height, width, 28, 128 * 28 * 28, 448 * 448)
        assert fitted(height, width, 28, 448 * 448) == size
    with pytest.raises(UserError, match="may be 200 times the other, got 10 x 2001"):
        fitted(10, 2001, 28, 448 * 448)


def test_frames_are_scaled_as_pillow_does() -> None:
    """Pillow's cubic in floats, cut to levels once at the end; torchvision, which the authors use, is torch's own."""
    picture = np.random.default_rng(1).integers(0, 256, (90, 130), dtype=np.uint8)
    frame = torch.from_numpy(picture).float().expand(1, 3, -1, -1) / 255
    for rows, columns in ((336, 308), (56, 84)):
        floats = Image.fromarray(picture.astype(np.float32)).resize((columns, rows), Image.Resampling.BICUBIC)
        expected = np.asarray(floats).clip(0, 255)
        found, as_levels = (255 * resized(frame, rows, columns, rounded)[0, 1].numpy() for rounded in (False, True))
        np.testing.assert_allclose(found, expected, rtol=0, atol=0.01)
        assert np.abs(as_levels - expected).max() < 0.51 and np.abs(as_levels - as_levels.round()).max() < 1e-3


def test_patches_by_hand() -> None:
    frames = torch.rand(4, 3, 56, 84, generator=torch.Generator().manual_seed(2))
    found, grid = patches(frames, 14, 2)
    assert grid == (2, 4, 6) and found.shape == (48, 3 * 2 * 14 * 14)
    mean, std = CLIP
    place = 0
    for time in range(2):
        for block in [(r, c) for r in range(2) for c in range(3)]:
            for row, column in [(2 * block[0] + r, 2 * block[1] + c) for r in range(2) for c in range(2)]:
                cut = frames[2 * time : 2 * time + 2, :, 14 * row : 14 * row + 14, 14 * column : 14 * column + 14]
                expected = torch.stack([(cut[:, c] - mean[c]) / std[c] for c in range(3)])
                torch.testing.assert_close(found[place], expected.flatten())
                place += 1


CHANGES: dict[str, tuple[str, str, Any]] = {
    'prompt_template_type is "simple", and only "detailed_special"': ("data_config", "prompt_template_type", "simple"),
    'data_config.sample_type is "multi_pts", and only "uniform" is served': ("data_config", "sample_type", "multi_pts"),
    "data_config.num_frames is 8, and only null is served": ("data_config", "num_frames", 8),
    r'data_config.eval_dim is "VQ", and only \["VQ", "MQ", "TA"\]': ("data_config", "eval_dim", "VQ"),
    "model_config.use_special_tokens is null, and only true": ("model_config", "use_special_tokens", None),
    "model_config.output_dim is 4, and only 1 or 3 is served": ("model_config", "output_dim", 4),
    "fps must be a number above 0, got 0": ("data_config", "fps", 0),
    "max_frame_pixels must be a number above 0, got null": ("data_config", "max_frame_pixels", None),
    "lora_alpha must be a number above 0, got null": ("peft_lora_config", "lora_alpha", None),
    "and lora_enable is false": ("peft_lora_config", "lora_enable", False),
    "MQ_std must be a number above 0, got -1": ("inference_config", "MQ_std", -1),
    "inference_config.TA_mean must be a number, got null": ("inference_config", "TA_mean", None),
}  # fmt: skip


@pytest.mark.parametrize("why", CHANGES)
def test_a_configuration_that_is_not_served_is_refused(published: Published, tmp_path: Path, why: str) -> None:
    section, key, value = CHANGES[why]
    said = tiny_videoalign.config(published.base)
    said[section] = {**said[section], key: value}
    (tmp_path / "model_config.json").write_text(json.dumps(said))
    for name in ("checkpoint-12", "prompt_template.py"):
        (tmp_path / name).symlink_to(published.folder / name)
    with pytest.raises(UserError, match=why):
        load(str(tmp_path), "", "")


def test_a_folder_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    made = publish(tmp_path)
    media, newest = Videos(clips()[:1], 8), made.folder / "checkpoint-12"

    def refused(why: str, **settings: Any) -> None:
        load.cache_clear()
        with pytest.raises(UserError, match=why) as caught:
            VideoAlign(**{"folder": str(made.folder), **settings})(media, PROMPTS[:1])
        assert "\n" not in str(caught.value)

    refused("give folder, the one that its authors publish", folder="")
    refused("no model_config.json in .*nowhere; give the folder", folder=str(tmp_path / "nowhere"))
    refused("cannot load Qwen2VLConfig from .*nowhere", base=str(tmp_path / "nowhere"))
    refused("nowhere.txt: no such file", template=str(tmp_path / "nowhere.txt"))
    bare = tmp_path / "bare.txt"
    bare.write_text("how good is {text_prompt}? <|VQ_reward|> <|TA_reward|> <|MQ_reward|>")
    refused("bare.txt: the text needs .* in this order", template=str(bare))
    other = tmp_path / "other.py"
    other.write_text("OTHER = 1")
    refused("other.py: no text DETAILED_PROMPT_WITH_SPECIAL_TOKEN", template=str(other))
    other.write_text("def (")
    refused("other.py: not Python that can be read", template=str(other))

    code = (made.folder / "prompt_template.py").read_text()
    (made.folder / "prompt_template.py").unlink()
    refused("no text to ask with: give template, the file prompt_template.py")
    (made.folder / "prompt_template.py").write_text(code)
    said = (made.folder / "model_config.json").read_text()
    (made.folder / "model_config.json").write_text(json.dumps({**json.loads(said), "inference_config": None}))
    refused("has no inference_config, means and deviations to normalise by")
    (made.folder / "model_config.json").write_text("{")
    refused("model_config.json: not JSON that can be read")
    (made.folder / "model_config.json").write_text("[]")
    refused("no object data_config")
    (made.folder / "model_config.json").write_text(said)

    state = torch.load(newest / "model.pth")
    for name, why in {
        "base_model.model.rm_head.weight": "they have no head.weight",
        "base_model.model.visual.merger.ln_q.weight": "Missing key.*qwen.visual.merger.ln_q.weight",
        "base_model.model.model.layers.0.mlp.up_proj.lora_B.default.weight": "up_proj.lora_A.weight has no counterpart",
    }.items():
        torch.save({key: value for key, value in state.items() if key != name}, newest / "model.pth")
        refused(why)
    words = "base_model.model.model.embed_tokens.weight"
    torch.save({**state, words: state[words][:-1]}, newest / "model.pth")
    refused(rf"know {tiny_videoalign.ROWS - 1} tokens, not <\|VQ_reward\|>")
    (newest / "model.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    refused("cannot read weights from")
    (newest / "model.pth").unlink()
    refused("checkpoint-12 has neither model.pth nor both adapter_model.safetensors and non_lora_state_dict.pth")
    (newest).rename(made.folder / "weights")
    (made.folder / "checkpoint-7").rmdir()
    refused("no folder checkpoint-STEP in .*; fetch the whole folder")


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("ran",)


def test_no_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The template of the miniature would end the process if it were run, and this checkpoint would make a folder."""
    made = publish(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert load(str(made.folder), "", "").template == tiny_videoalign.TEXT
    torch.save({"x": Evil()}, made.folder / "checkpoint-12" / "model.pth")
    load.cache_clear()
    with pytest.raises(UserError, match="cannot read weights"):
        load(str(made.folder), "", "")
    assert not (tmp_path / "ran").exists()


def test_a_text_file_asks_too(published: Published, tmp_path: Path) -> None:
    (tmp_path / "asks.txt").write_text(tiny_videoalign.TEXT)
    media = Videos(clips()[:1], 8)
    scores = [
        VideoAlign(str(published.folder), template=t)(media, PROMPTS[:1]).score for t in ("", f"{tmp_path}/asks.txt")
    ]
    assert torch.equal(*scores)


def test_pictures_and_prompts_with_its_tokens_are_refused(published: Published) -> None:
    judge = VideoAlign(str(published.folder))
    with pytest.raises(UserError, match="judges clips, which have frames a second; Images have none"):
        judge(Images(torch.rand(1, 3, 28, 28)), PROMPTS[:1])
    with pytest.raises(UserError, match=r"holds <\|TA_reward\|>, a token of the network's own"):
        judge(Videos(clips()[:1], 8), [Prompt("a cat <|TA_reward|>")])


@tiny_vision.needs_weights("VideoReward", "Qwen2-VL-2B-Instruct", "prompt_template.py")
def test_the_published_folder_is_read_whole() -> None:
    """Its authors print no scores; what they print are the numbers to normalise by, and names and shapes must fit."""
    folder, base = tiny_vision.WEIGHTS / "VideoReward", tiny_vision.WEIGHTS / "Qwen2-VL-2B-Instruct"
    trained = read_trained(folder)
    assert trained.statistics == ((3.6757, 2.2476), (1.1646, 1.3811), (2.8105, 2.5121))
    assert (trained.fps, trained.max_pixels) == (2, 448 * 448)
    judge = VideoAlign(str(folder), str(base), str(tiny_vision.WEIGHTS / "prompt_template.py"))
    output = judge(Videos(clips()[:1], 8), PROMPTS[:1])
    assert output.valid.all() and output.score.abs().item() < 30
    total = torch.stack(list(output.components.values())).sum().item()
    assert total == pytest.approx(output.score.item(), rel=1e-4)
