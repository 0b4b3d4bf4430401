"""Clips that go on from a given first frame, or to a last one, against diffusers' pipelines, on miniatures of each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanImageToVideoPipeline, WanPipeline, WanTransformer3DModel
from diffusers.pipelines.wan import pipeline_wan_i2v
from PIL import Image
from torch import Tensor

from limner.core.errors import UserError
from limner.core.types import Prompt, Vocabulary
from limner.models.given import given_rows, require_inputs
from limner.models.wan.adapter import Wan
from limner.models.wan.build import WanSize, build, tiny_seeing
from limner.models.wan.settings import WanSettings
from limner.policies.guided import guided, with_empty

TEXTS = ["a red star", "a blue square falls"]
LAST = ["green.png", "red.png"]
SETTINGS = WanSettings(resolution=32, width=48, num_frames=9, max_sequence_length=16)


def _beside(pipeline: WanPipeline, **more: Any) -> WanTransformer3DModel:
    """Return a transformer that reads mask and first frame beside the noise."""
    return WanTransformer3DModel.from_config(pipeline.transformer.config, in_channels=36, **more)


def to_last_of_21() -> WanImageToVideoPipeline:
    """Return one that sees two pictures, of five tokens each, and knows which is which by their places."""
    return tiny_seeing(10)


def of_22() -> WanImageToVideoPipeline:
    base = Wan.tiny().pipeline
    both = {"transformer": _beside(base), "transformer_2": _beside(base)}
    return WanImageToVideoPipeline(**(base.components | both), boundary_ratio=0.5)


def of_5b() -> WanPipeline:
    """Return a folder that says nothing of first frames: the 5B does both."""
    pipeline = build(WanSize(Vocabulary(("red", "star")), layers=2, heads=2, encoder_channels=4, decoder_channels=4))
    pipeline.register_to_config(expand_timesteps=True)
    return pipeline


KINDS = {
    "2.1": (tiny_seeing, SETTINGS),
    "2.1 to a last frame": (to_last_of_21, SETTINGS),
    "14B of 2.2": (of_22, SETTINGS),
    "14B of 2.2 to a last frame": (of_22, replace(SETTINGS, last_frame=True)),
    "5B of 2.2": (of_5b, replace(SETTINGS, first_frame=True)),
}


@pytest.fixture(scope="module", params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, WanSettings]:
    folder = tmp_path_factory.mktemp("wan")
    make, settings = KINDS[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        make().save_pretrained(folder)
    return folder, settings


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> list[Prompt]:
    place = tmp_path_factory.mktemp("first")
    for name, colour in (("red", (250, 30, 20)), ("blue", (10, 40, 220)), ("green", (20, 200, 60))):
        image = Image.new("RGB", (60, 40), "white")
        image.paste(colour, (10, 5, 30, 30))
        image.save(place / f"{name}.png")
    return [
        Prompt(text, inputs={"image": str(place / f"{name}.png")})
        for text, name in zip(TEXTS, ("red", "blue"), strict=True)
    ]


def with_last(prompts: list[Prompt]) -> list[Prompt]:
    """Return the prompts with a last frame each: another one."""
    places = [str(Path(prompt.inputs["image"]).parent / name) for prompt, name in zip(prompts, LAST, strict=True)]
    return [
        replace(prompt, inputs={**prompt.inputs, "last_image": place})
        for prompt, place in zip(prompts, places, strict=True)
    ]


def noise(adapter: Wan) -> Tensor:
    return torch.randn(2, *adapter.latent().shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_euler_steps_draw_the_clip_of_the_unmodified_pipeline(
    case: tuple[Path, WanSettings], prompts: list[Prompt], guidance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pipeline takes one prompt's pictures a call; here two prompts with two pictures, or four, share a batch."""
    nothing_to_mend = SimpleNamespace(fix_text=lambda text: text)
    monkeypatch.setattr(pipeline_wan_i2v, "ftfy", nothing_to_mend, raising=False)  # it cannot do without
    plain = WanImageToVideoPipeline.from_pretrained(case[0])
    plain.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    plain.set_progress_bar_config(disable=True)
    adapter = Wan.load(*case)
    adapter.pipeline.scheduler = plain.scheduler
    asked = with_last(prompts) if "last_image" in adapter.takes else prompts
    start = noise(adapter)
    expected = torch.cat(
        [
            plain(
                prompt=prompt.text,
                **{name: Image.open(place) for name, place in prompt.inputs.items()},
                height=32,
                width=48,
                num_frames=9,
                max_sequence_length=16,
                latents=x[None],
                num_inference_steps=4,
                guidance_scale=guidance,
                output_type="pt",
            ).frames
            for prompt, x in zip(asked, start, strict=True)
        ]
    )
    condition, index = adapter.encode(asked), torch.arange(2)
    times, x = adapter.times(4), start
    with torch.no_grad():
        for t, s in zip(times[:-1], times[1:], strict=True):
            x = x + (s - t) * guided(adapter.predict, guidance, (x, t.expand(2)), condition, index)
        found = adapter.decode(x).frames()
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)


def test_what_guidance_leads_away_from_has_the_same_pictures() -> None:
    """Prompts 2, 0 of three, then the empty one for each, the fourth row."""
    index = torch.tensor([2, 0, 1, 2])
    assert given_rows(4, index).tolist() == index.tolist()
    both = with_empty({"context": torch.zeros(4, 1)}, index)
    assert both.tolist() == [2, 0, 1, 2, 3, 3, 3, 3]
    assert given_rows(4, both).tolist() == [2, 0, 1, 2, 2, 0, 1, 2]


def test_the_given_frame_of_the_5b_is_where_every_step_leads(tmp_path: Path, prompts: list[Prompt]) -> None:
    """The published pipeline puts it there at the end; x0 of the velocity is that frame at every time."""
    of_5b().save_pretrained(tmp_path)
    adapter = Wan.load(tmp_path, replace(SETTINGS, first_frame=True))
    condition, x, t = adapter.encode(prompts), noise(adapter), torch.tensor([0.9, 0.2])
    with torch.no_grad():
        velocity = adapter.predict(x, t, condition, torch.arange(2))
    clean = x - t.view(-1, 1, 1, 1, 1) * velocity
    torch.testing.assert_close(clean[:, :, :1], condition["first"][:2], atol=1e-5, rtol=0)


def test_who_brings_what_is_asked_before_anything_is_drawn(tmp_path: Path, prompts: list[Prompt]) -> None:
    of_22().save_pretrained(tmp_path)
    adapter = Wan.load(tmp_path, SETTINGS)
    require_inputs(adapter, prompts)
    with pytest.raises(UserError, match="'a red star' brings no image, which this model is given beside the text"):
        require_inputs(adapter, [Prompt("a red star")])
    with pytest.raises(UserError, match="brings no image"):
        adapter.encode([Prompt("a red star")])
    with pytest.raises(UserError, match="brings along 'image', and this model takes texts alone"):
        require_inputs(Wan.tiny(), prompts)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(UserError, match="it holds no picture of a kind known here"):
        require_inputs(adapter, [Prompt("a", inputs={"image": str(broken)})])
    to_last = Wan.load(tmp_path, replace(SETTINGS, last_frame=True))
    require_inputs(to_last, with_last(prompts))
    with pytest.raises(UserError, match="'a red star' brings no last_image"):
        require_inputs(to_last, prompts)
    for pipeline in (Wan.tiny().pipeline, tiny_seeing()):
        with pytest.raises(UserError, match="last_frame is for the 14B of image to video of Wan 2.2"):
            Wan.wrap(pipeline, replace(SETTINGS, last_frame=True))
    with pytest.raises(UserError, match="a clip with a first and a last frame has more"):
        Wan.wrap(to_last_of_21(), replace(SETTINGS, num_frames=1))
    with pytest.raises(UserError, match="pos_embed_seq_len"):
        Wan.wrap(tiny_seeing(6), SETTINGS)
    with pytest.raises(UserError, match="first_frame is for the 5B of Wan 2.2"):
        Wan.wrap(Wan.tiny().pipeline, WanSettings(resolution=32, num_frames=5, first_frame=True))
