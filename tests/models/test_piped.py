"""Every family of pictures against the unmodified diffusers pipeline, on a miniature with random weights."""

from __future__ import annotations

import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from diffusers import DiffusionPipeline
from peft import LoraConfig
from torch import Tensor, nn

from limner.core.edition import Edition
from limner.core.errors import UserError
from limner.core.media import Images, Media, Videos
from limner.diffusion.dynamics import Dynamics, EulerODE
from limner.diffusion.shape import over_latent
from limner.models.packing import packed, unpacked
from limner.models.piped import Piped
from limner.policies.denoising import Sampler
from limner.report.card import Telling
from piped_cases import CASES, PROMPTS, TEXTS, Case, noise, prediction


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def model(case: Case) -> Piped:
    return case.model()


def known(case: Case, changes: dict[str, Any]) -> dict[str, Any]:
    """Return those of the changes that the family's settings have; a pipeline may know no negative prompt."""
    names = {field.name for field in fields(case.family.tiny_settings)}
    return {name: value for name, value in changes.items() if name in names}


def drawn(model: Piped, guidance: float, start: Tensor, dynamics: Dynamics, steps: int = 4) -> Tensor:
    """Return what steps along the pipeline's own grid draw from `start`, with the noise of `chance` where there is any.

    Without noise they are Euler's, and DDIM's.
    """
    policy = Sampler(EulerODE(), steps, guidance=guidance).policy(model)
    condition, times, x, noise = model.encode(PROMPTS), model.times(steps), start, chance()
    with torch.no_grad():
        for t, s in zip(times[:-1], times[1:], strict=True):
            estimate = policy.estimate(x, t.expand(2), condition, torch.arange(2))
            following = dynamics.step(x, estimate, t.expand(2), s.expand(2), model.schedule)
            fresh = torch.randn(x.shape, generator=noise) if dynamics.stochastic else torch.zeros_like(x)
            x = following.mean + over_latent(following.std, x) * fresh
        return model.decode(x).frames()


def together(case: Case, plain: Any, start: Tensor, call: dict[str, Any]) -> Tensor:
    """Return what the plain pipeline draws of all texts at once."""
    if isinstance(call.get("negative_prompt"), str):
        call["negative_prompt"] = [call["negative_prompt"]] * len(TEXTS)
    drawn, *_ = plain(prompt=list(TEXTS), latents=case.given(start), **call)
    return drawn


def edited(case: Case, plain: Any, start: Tensor, call: dict[str, Any]) -> Tensor:
    """Return what the plain pipeline makes of each picture by its text, as a card has it."""
    each = zip(TEXTS, call.pop("image"), start.split(1), strict=True)
    drawn = [plain(prompt=text, image=shown, latents=case.given(x), **call)[0] for text, shown, x in each]
    return torch.cat(drawn)


def remembered(plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what a pipeline's module is told forgotten after the test."""
    module = sys.modules[type(plain).__module__]
    for name in {"calculate_dimensions"} & vars(module).keys():
        monkeypatch.setattr(module, name, vars(module)[name])


def chance() -> torch.Generator:
    """Return the generator of all noise after the first."""
    return torch.Generator().manual_seed(5)


@pytest.mark.parametrize("guidance", [1.0, 2.5])
@pytest.mark.parametrize("chosen", [False, True], ids=["own", "set"])
def test_euler_steps_draw_the_picture_of_the_unmodified_pipeline(
    case: Case, guidance: float, chosen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the exported card asks it to draw: guidance of both sorts, negative prompts, height and width."""
    if guidance != 1 and not case.guided:
        pytest.skip("this pipeline knows no guidance")
    changes = known(case, {**case.size, "negative_prompt": "two red"}) if chosen else {}
    settings = replace(case.family.tiny_settings, **changes)
    model, plain = case.model(settings), case.plain()
    start = noise(model, 2)
    asked = Sampler(EulerODE(), 4, guidance=guidance).call()
    call = dict(settings.call(asked)) | dict(case.extra)
    if isinstance(settings, Telling):
        remembered(plain, monkeypatch)
        exec("\n".join(settings.told(asked)), {"pipe": plain})
    if case.dynamics.stochastic:
        call["generator"] = chance()
    call |= {"output_type": "pt", "return_dict": False}
    expected = edited(case, plain, start, call) if case.alone else together(case, plain, start, call)
    assert expected.std() > 0.01 and (expected[0] - expected[1]).abs().max() > 1e-4
    found = drawn(model, guidance, start, case.dynamics)
    torch.testing.assert_close(found.reshape(expected.shape), expected, atol=1e-4, rtol=0)


def test_latents_of_media_are_the_inverse_scale_of_decode(model: Piped, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the autoencoder is given by `decode` is what it gave to `encode`: the same scale and shift."""
    vae, shown, given, made = model.pipeline.vae, media(model), [], []
    decode, encode = vae.decode, vae.encode

    def seen_decode(latents: Tensor, **how: Any) -> Any:
        given.append(latents)
        return decode(latents, **how)

    def seen_encode(pixels: Tensor) -> Any:
        made.append(encode(pixels))
        return made[-1]

    monkeypatch.setattr(vae, "decode", seen_decode)
    monkeypatch.setattr(vae, "encode", seen_encode)
    latents = model.encode_media(shown)
    assert latents.shape[1:] == model.latent().shape
    with torch.no_grad():
        model.decode(latents)
    torch.testing.assert_close(torch.cat(given), torch.cat(list(map(mean, made))), atol=1e-5, rtol=1e-5)


def media(model: Piped) -> Media:
    """Return two samples of what the model draws, of random colours."""
    with torch.no_grad():
        like = model.decode(torch.zeros(2, *model.latent().shape))
    colours = torch.rand(like.frames().shape, generator=torch.Generator().manual_seed(1))
    return Images(colours[:, 0]) if isinstance(like, Images) else Videos(colours, 8)


def mean(encoded: Any) -> Tensor:
    """Return the latents in what an autoencoder returns; one without a posterior gives them themselves."""
    return encoded[0] if isinstance(encoded[0], Tensor) else encoded[0].mean


def with_lora(case: Case) -> Piped:
    """Return a model whose transformer carries a LoRA of rank 4 and alpha 12 that does something."""
    model = case.model()
    config = LoraConfig(r=4, lora_alpha=12, target_modules=list(model.lora_targets), init_lora_weights=False)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        peft.inject_adapter_in_model(config, model.networks[model.family.trained], "default")
    return model


def test_an_exported_lora_is_the_same_in_plain_diffusers(case: Case, tmp_path: Path) -> None:
    model, plain = with_lora(case), case.plain()
    model.export_lora(tmp_path)
    before = prediction(Piped.wrap(case.family, plain, case.family.tiny_settings))
    imports, line = model.lora_use
    exec("\n".join([*imports, line.format(place="place")]), {"pipe": plain, "place": str(tmp_path)})
    after = prediction(Piped.wrap(case.family, plain, case.family.tiny_settings))
    assert (after - before).abs().max() > 1e-3
    torch.testing.assert_close(after, prediction(model), atol=1e-5, rtol=1e-4)


def test_an_exported_network_is_the_same_in_plain_diffusers(case: Case, tmp_path: Path) -> None:
    model = with_lora(case)
    model.export_full(tmp_path)
    name = case.family.trained
    kind = type(model.pipeline.components[name])
    loaded = model.with_networks({name: kind.from_pretrained(tmp_path)})
    torch.testing.assert_close(prediction(loaded), prediction(model), atol=1e-5, rtol=1e-4)


def test_every_default_target_is_a_layer(model: Piped) -> None:
    names = [name for name, each in model.networks[model.family.trained].named_modules() if isinstance(each, nn.Linear)]
    for target in model.lora_targets:
        assert any(name.endswith(f".{target}") for name in names), target


def test_a_folder_is_loaded_as_it_was_saved(case: Case, tmp_path: Path, no_network: None) -> None:
    saved = case.model()
    saved.pipeline.save_pretrained(tmp_path)
    loaded = case.family.tiny_settings.load(tmp_path, torch.float32, torch.device("cpu"))
    torch.testing.assert_close(prediction(loaded), prediction(saved))
    hollow = case.family.tiny_settings.load(Edition(str(tmp_path), hollow=True), torch.float32, torch.device("cpu"))
    name = case.family.trained
    assert all(each.is_meta for each in hollow.networks[name].parameters())
    hollow.networks[name].load_state_dict(loaded.networks[name].state_dict(), assign=True)
    torch.testing.assert_close(prediction(hollow), prediction(saved))
    by_us = {part: read(tmp_path, subfolder=part) for part, read in case.family.readers.items()}
    plain = DiffusionPipeline.from_pretrained(tmp_path, **by_us)
    copied = case.family.tiny_settings.load(plain, torch.float32, torch.device("cpu"))
    torch.testing.assert_close(prediction(copied), prediction(saved))
    assert copied.pipeline_name == type(plain).__name__ in case.family.tiny_settings.serves


def test_a_picture_of_part_of_a_token_is_refused(case: Case) -> None:
    with pytest.raises(UserError, match="model: width is 36 pixels; give a multiple of"):
        case.model(replace(case.family.tiny_settings, width=36))


@pytest.mark.parametrize("size", [(2, 2), (4, 6)])
def test_tokens_are_unpacked_to_what_was_packed(size: tuple[int, int]) -> None:
    x = torch.arange(2 * 3 * size[0] * size[1]).reshape(2, 3, *size).float()
    tokens = packed(x)
    assert torch.equal(unpacked(tokens, size), x)
    assert torch.equal(tokens[0, 0], x[0, :, :2, :2].reshape(-1))
