"""What adapters of pipelines share: where an autoencoder works and in what pieces, and who encodes a text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from limner.core.edition import Edition
from limner.core.errors import UserError
from limner.core.quiet import no_bars
from limner.models.arranged import arrange_autoencoder
from limner.models.identity import encoding_identity
from limner.models.piped import Piped
from piped_cases import CASES, noise, prediction
from pretended_cuda import pretended_cuda
from toys import toy_denoiser


def test_tiles_are_those_of_the_library_and_not_the_whole() -> None:
    model, other = CASES["flux"].model(), CASES["flux"].model()
    settings = replace(model.settings, resolution=128)
    model, other = (Piped.wrap(each.family, each.pipeline, settings) for each in (model, other))
    x = noise(model, 1)
    with torch.no_grad():
        whole = model.decode(x).frames()
        arrange_autoencoder(model, "device", tiling=True)
        other.pipeline.vae.enable_tiling()
        tiled = model.decode(x).frames()
        assert torch.equal(tiled, other.decode(x).frames())
    assert tiled.shape == whole.shape and not torch.equal(tiled, whole)


@pytest.mark.parametrize("name", ["flux", "flux2", "qwen_image", "ltx", "mochi", "animatediff", "sana"])
def test_an_autoencoder_on_the_cpu_decodes_what_is_drawn_elsewhere(name: str) -> None:
    case = CASES[name]
    model, x = case.model(), noise(case.model(), 1)
    with torch.no_grad():
        expected = model.decode(x).frames()
        with pretended_cuda() as cuda:
            away = Piped.wrap(case.family, case.miniature().to(cuda), case.family.tiny_settings)
            arrange_autoencoder(away, "cpu", tiling=False)
            found = away.decode(x.to(cuda)).frames()
            assert found.device.type == "cpu" and away.latent().device.type == "cuda"
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_models_without_such_parts_are_refused() -> None:
    with pytest.raises(UserError, match="this model has none"):
        arrange_autoencoder(toy_denoiser(3), "cpu", tiling=False)
    with pytest.raises(UserError, match="this model is none: leave it out"):
        encoding_identity(toy_denoiser(3))


def changes() -> dict[str, Any]:
    def weight(model: Piped) -> Piped:
        with torch.no_grad():
            next(model.pipeline.text_encoder_2.parameters())[0] += 1e-3
        return model

    def token(model: Piped) -> Piped:
        model.pipeline.tokenizer.add_tokens(["blue"])
        return model

    return {
        "weight": weight,
        "token": token,
        "settings": lambda model: replace(model, settings=replace(model.settings, max_sequence_length=8)),
        "precision": lambda model: replace(model, dtype=torch.bfloat16),
    }


@pytest.mark.parametrize("change", changes())
def test_whatever_encodes_a_text_is_in_its_name(change: str) -> None:
    expected = encoding_identity(CASES["flux"].model())
    assert encoding_identity(CASES["flux"].model()) == expected
    assert encoding_identity(changes()[change](CASES["flux"].model())) != expected


def test_a_variant_of_a_folder_is_read_as_diffusers_reads_it(tmp_path: Path) -> None:
    """The two differ here in every weight of the transformer; only one is asked for."""
    case = CASES["flux"]
    plain, half = case.miniature(), case.miniature()
    with torch.no_grad():
        for each in half.transformer.parameters():
            each.mul_(1.5)
    with no_bars():
        plain.save_pretrained(tmp_path)
        half.save_pretrained(tmp_path, variant="fp16")
    kind = case.family.tiny_settings
    for source, expected in ((tmp_path, plain), (Edition(str(tmp_path), variant="fp16"), half)):
        loaded = kind.load(source, torch.float32, torch.device("cpu"))
        torch.testing.assert_close(prediction(loaded), prediction(Piped.wrap(case.family, expected, kind)))
    with pytest.raises(UserError, match="no weights in the variant bf16"):
        kind.load(Edition(str(tmp_path), variant="bf16"), torch.float32, torch.device("cpu"))
    with pytest.raises(UserError, match="model.revision is of a hub id"):
        kind.load(Edition(str(tmp_path), revision="main"), torch.float32, torch.device("cpu"))


def test_a_revision_of_a_hub_id_is_the_one_that_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a cache of the hub that has two, without the network."""
    case, kind = CASES["flux"], CASES["flux"].family.tiny_settings
    cache, made = tmp_path / "models--someone--tiny", []
    for i, name in enumerate(("main", "second")):
        pipeline = case.miniature()
        with torch.no_grad():
            for each in pipeline.transformer.parameters():
                each.mul_(1 + i)
        commit = f"{i}" * 40
        with no_bars():
            pipeline.save_pretrained(cache / "snapshots" / commit)
        (cache / "refs").mkdir(exist_ok=True)
        (cache / "refs" / name).write_text(commit)
        made.append(pipeline)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for source, expected in (("someone/tiny", made[0]), (Edition("someone/tiny", revision="second"), made[1])):
        loaded = kind.load(source, torch.float32, torch.device("cpu"))
        torch.testing.assert_close(prediction(loaded), prediction(Piped.wrap(case.family, expected, kind)))
    with pytest.raises(UserError, match="cannot be had from the hub"):
        kind.load(Edition("someone/tiny", revision="third"), torch.float32, torch.device("cpu"))
