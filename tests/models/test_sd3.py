"""The SD3 adapter against the unmodified diffusers pipeline, on a small folder without T5 and a miniature with it."""

from __future__ import annotations

import logging
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
from peft import LoraConfig
from torch import Tensor, nn

from limner.core.errors import UserError
from limner.core.types import Prompt
from limner.models import quiet
from limner.models.sd3 import SD3
from limner.models.sd3.build import SD3Size, build, word_tokenizer

WORDS = tuple("a one two three four red green blue star stars square squares circle circles left of above".split())
TEXTS = ["a red star", "two blue squares left of a green circle"]


@dataclass(frozen=True)
class Case:
    """An adapter, the same folder as plain diffusers loads it, and the folder."""

    adapter: SD3
    plain: StableDiffusion3Pipeline
    folder: Path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Transformer and autoencoder stored in float16, text encoders in float32, loaded with no dtype."""
    folder = tmp_path_factory.mktemp("small")
    pipeline = build(SD3Size(words=WORDS, layers=2, shift=1.0))
    pipeline.vae.register_to_config(scaling_factor=0.7, shift_factor=0.2)
    pipeline.transformer.half()
    pipeline.vae.half()
    pipeline.save_pretrained(folder)
    plain = StableDiffusion3Pipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None)
    return Case(SD3.load(folder, max_sequence_length=0), plain, folder)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("tiny")
    adapter = SD3.tiny(folder)
    return Case(adapter, StableDiffusion3Pipeline.from_pretrained(folder), folder)


@pytest.fixture(params=["small", "tiny"])
def case(request: pytest.FixtureRequest) -> Case:
    return request.getfixturevalue(request.param)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def noise(adapter: SD3, count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, *adapter.latent().shape, generator=torch.Generator().manual_seed(seed))


def velocity(adapter: SD3, seed: int = 0) -> Tensor:
    """Return one prediction with which two transformers can be compared."""
    condition = adapter.encode([Prompt(text) for text in TEXTS])
    with torch.no_grad():
        return adapter.predict(noise(adapter, 3, seed), torch.tensor([0.2, 0.5, 1]), condition, torch.tensor([0, 1, 2]))


def call(case: Case, **kwargs: Any) -> Tensor:
    """Return what the unmodified pipeline draws."""
    kwargs |= {"latents": noise(case.adapter, 2), "max_sequence_length": case.adapter.max_sequence_length}
    return case.plain(TEXTS, guidance_scale=1.0, output_type="pt", **kwargs).images


# --- the same pictures as diffusers


def test_euler_steps_draw_the_picture_of_the_unmodified_pipeline(case: Case) -> None:
    adapter = case.adapter
    condition = adapter.encode([Prompt(text) for text in TEXTS])
    times, x = adapter.times(4), noise(adapter, 2)
    with torch.no_grad():
        for t, s in zip(times[:-1], times[1:], strict=True):
            x = x + (s - t) * adapter.predict(x, t.expand(2), condition, torch.arange(2))
        pixels = adapter.decode(x).pixels
    expected = call(case, num_inference_steps=4)
    assert expected.std() > 0.01
    torch.testing.assert_close(pixels, expected, atol=1e-4, rtol=0)


def test_times_are_the_schedulers_sigmas_and_index_its_timesteps(case: Case) -> None:
    for steps in (1, 4, 10):
        case.plain.scheduler.set_timesteps(steps)
        assert torch.equal(case.adapter.times(steps), case.plain.scheduler.sigmas)
        assert torch.equal(case.adapter.times(steps)[:-1] * 1000, case.plain.scheduler.timesteps)


def test_times_follow_dynamic_shifting(tmp_path: Path) -> None:
    pipeline = SD3.tiny().pipeline
    pipeline.scheduler = pipeline.scheduler.from_config(pipeline.scheduler.config, use_dynamic_shifting=True)
    for resolution in (32, 64):
        adapter = SD3.wrap(pipeline, max_sequence_length=16, resolution=resolution)
        times = adapter.times(6)
        pipeline.set_progress_bar_config(disable=True)
        pipeline(TEXTS[0], latents=noise(adapter, 1), height=resolution, width=resolution, num_inference_steps=6)
        assert torch.equal(times, pipeline.scheduler.sigmas)
    assert not torch.equal(adapter.times(6), SD3.wrap(pipeline, resolution=32).times(6))


def test_the_network_is_given_1000_t(small: Case) -> None:
    seen: list[Tensor] = []
    adapter = small.adapter

    class Spy(nn.Module):
        def forward(self, hidden_states: Tensor, timestep: Tensor, **_: Any) -> tuple[Tensor]:
            seen.append(timestep)
            return (hidden_states.half(),)

    condition = adapter.encode([])
    t = torch.tensor([1.0, 0.3, 0.001])
    out = adapter.with_networks({"transformer": Spy()}).predict(noise(adapter, 3), t, condition, torch.zeros(3).long())
    assert torch.equal(seen[0], 1000 * t) and out.dtype == torch.float32


# --- prompts


def test_each_text_is_encoded_once(small: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    pipeline = small.adapter.pipeline
    original = pipeline.encode_prompt

    def spy(prompt: list[str], *args: Any, **kwargs: Any) -> Any:
        seen.extend(prompt)
        return original(prompt, *args, **kwargs)

    monkeypatch.setattr(pipeline, "encode_prompt", spy)
    texts = ["a red star", "", "two stars", "a red star"] + [f"star {i}" for i in range(80)]
    condition = small.adapter.encode([Prompt(text) for text in texts])
    assert len(seen) == len(set(seen)) == len(set(texts))
    assert condition["context"].shape[0] == condition["pooled"].shape[0] == len(texts) + 1
    for rows in condition.values():
        assert torch.equal(rows[0], rows[3]) and torch.equal(rows[1], rows[-1])


def test_rows_are_the_pipelines_own_encoding(case: Case) -> None:
    condition = case.adapter.encode([Prompt(text) for text in TEXTS])
    for row, text in enumerate([*TEXTS, ""]):
        context, _, pooled, _ = case.plain.encode_prompt(
            text, None, None, do_classifier_free_guidance=False, max_sequence_length=case.adapter.max_sequence_length
        )
        torch.testing.assert_close(condition["context"][row], context[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(condition["pooled"][row], pooled[0], atol=1e-5, rtol=1e-5)


def test_default_sequence_length_is_that_of_diffusers(small: Case, tiny: Case) -> None:
    adapter = SD3.wrap(tiny.adapter.pipeline)
    context, _, _, _ = tiny.plain.encode_prompt(TEXTS[0], None, None, do_classifier_free_guidance=False)
    torch.testing.assert_close(adapter.encode([Prompt(TEXTS[0])])["context"][0], context[0], atol=1e-5, rtol=1e-5)
    assert context.shape[1] == 16 + 256
    without_t5 = SD3.wrap(small.adapter.pipeline).encode([])["context"]
    assert without_t5.shape[1] == 14 + 256 and bool((without_t5[:, 14:] == 0).all())
    assert small.adapter.encode([])["context"].shape[1] == 14


def test_every_word_is_one_token() -> None:
    words = (*WORDS, "triangle", "triangles", "start", "tar", "circ", "onestar", "stare", "yellow", "below", "elbow")
    tokenizer = word_tokenizer(words, 14)
    ids = {word: tokenizer(word, add_special_tokens=False).input_ids for word in words}
    assert all(len(i) == 1 for i in ids.values()), ids
    assert len({i[0] for i in ids.values()}) == len(set(words))
    assert tokenizer.eos_token_id != 2 and tokenizer.pad_token_id == tokenizer.eos_token_id
    begin, *middle, end = tokenizer("Two red stars").input_ids
    assert (begin, end) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert middle == [ids["two"][0], ids["red"][0], ids["stars"][0]]
    assert tokenizer.decode(middle) == "two red stars"


def test_pooled_state_is_that_of_the_end_token(small: Case) -> None:
    encoder, tokenizer = small.plain.text_encoder, small.plain.tokenizer
    tokens = tokenizer(TEXTS[0], padding="max_length", max_length=14, return_tensors="pt").input_ids
    with torch.no_grad():
        output = encoder(tokens)
        expected = encoder.text_projection(output.last_hidden_state[0, 4])
    assert tokens[0, 4] == tokenizer.eos_token_id and tokens[0, 3] != tokenizer.eos_token_id
    torch.testing.assert_close(output.text_embeds[0], expected)


def test_a_long_prompt_is_cut_and_said_once(small: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    long = " ".join(["red", "star"] * 20)
    quiet._ONCE.seen.clear()
    messages: list[str] = []
    logger = logging.getLogger(StableDiffusion3Pipeline.__module__)
    monkeypatch.setattr(logger, "callHandlers", lambda record: messages.append(record.getMessage()))
    conditions = [small.adapter.encode([Prompt(text)]) for text in (long, " ".join(["red", "star"] * 6), long)]
    assert torch.equal(conditions[0]["context"], conditions[2]["context"])
    torch.testing.assert_close(conditions[0]["context"][0], conditions[1]["context"][0])
    assert len(messages) == 1 and "truncated because CLIP can only handle sequences up to 14 tokens" in messages[0]


# --- precision and parts


def test_mixed_precision_folder_loads_in_float32(small: Case) -> None:
    for part in (small.adapter.pipeline.transformer, small.adapter.pipeline.vae, small.adapter.pipeline.text_encoder):
        assert {p.dtype for p in part.parameters()} == {torch.float32}
    condition = small.adapter.encode([Prompt(TEXTS[0])])
    assert {rows.dtype for rows in condition.values()} == {torch.float32}
    assert velocity(small.adapter).dtype == torch.float32


def test_in_bfloat16_the_velocity_is_near_and_float32(small: Case) -> None:
    adapter = SD3.load(small.folder, max_sequence_length=0, dtype=torch.bfloat16)
    assert adapter.networks["transformer"].dtype == torch.bfloat16 and adapter.pipeline.vae.dtype == torch.float32
    low, full = velocity(adapter), velocity(small.adapter)
    assert low.dtype == torch.float32 and not torch.equal(low, full)
    assert (low - full).abs().max() < 0.05 * full.abs().max()


def test_only_the_transformer_is_trainable(case: Case) -> None:
    parts = {name: part for name, part in case.adapter.pipeline.components.items() if isinstance(part, nn.Module)}
    assert len(parts) == 4 + (case.plain.text_encoder_3 is not None)
    for name, part in parts.items():
        assert not part.training
        assert all(p.requires_grad == (name == "transformer") for p in part.parameters())


def test_default_lora_targets_are_the_joint_attention(tiny: Case) -> None:
    transformer = tiny_copy(tiny)
    transformer.add_adapter(LoraConfig(r=2, target_modules=list(SD3.lora_targets)))
    adapted = {name.split(".lora_A")[0] for name, _ in transformer.named_modules() if name.endswith("lora_A")}
    joint = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
    expected = {f"transformer_blocks.{block}.attn.{name}" for block in (0, 1) for name in joint}
    assert adapted == expected - {"transformer_blocks.1.attn.to_add_out"}


def test_resolution_sets_the_latent(tiny: Case) -> None:
    adapter = SD3.load(tiny.folder, max_sequence_length=16, resolution=64)
    assert (tiny.adapter.latent().shape, adapter.latent().shape) == ((16, 4, 4), (16, 8, 8))
    assert velocity(adapter).shape == (3, 16, 8, 8)
    with torch.no_grad():
        assert adapter.decode(noise(adapter, 1)).pixels.shape == (1, 3, 64, 64)
    for resolution in (0, 40):
        with pytest.raises(UserError, match=r"resolution is \d+ pixels; give a multiple of 16"):
            SD3.wrap(tiny.adapter.pipeline, resolution=resolution)


def test_decoding_in_pieces_changes_nothing(small: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    x = noise(small.adapter, 5)
    with torch.no_grad():
        whole = small.adapter.decode(x).pixels
        monkeypatch.setattr("limner.models.sd3.adapter.DECODE_PIXELS_CPU", 2 * 64 * 64)
        torch.testing.assert_close(small.adapter.decode(x).pixels, whole, atol=2e-5, rtol=0)


def test_with_networks_leaves_the_original_alone(tiny: Case) -> None:
    before = velocity(tiny.adapter)
    other = tiny.adapter.with_networks({"transformer": tiny_copy(tiny)})
    torch.testing.assert_close(velocity(other), before)
    with torch.no_grad():
        for parameter in other.networks["transformer"].parameters():
            parameter.mul_(1.1)
    assert (velocity(other) - before).abs().max() > 1e-3
    assert torch.equal(velocity(tiny.adapter), before)


# --- export


def tiny_copy(case: Case) -> SD3Transformer2DModel:
    return SD3Transformer2DModel.from_pretrained(case.folder / "transformer")


def fresh(case: Case) -> StableDiffusion3Pipeline:
    """Return a plain pipeline with a transformer of its own, as the folder holds it."""
    return StableDiffusion3Pipeline(**{**case.plain.components, "transformer": tiny_copy(case)})


def trained(case: Case, targets: tuple[str, ...], inject: bool) -> SD3:
    """Return an adapter whose transformer carries a LoRA of rank 4 and alpha 12 that does something."""
    transformer = tiny_copy(case)
    config = LoraConfig(r=4, lora_alpha=12, target_modules=list(targets), init_lora_weights=False)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        if inject:
            peft.inject_adapter_in_model(config, transformer, "default")
        else:
            transformer.add_adapter(config, "default")
    return case.adapter.with_networks({"transformer": transformer})


@pytest.mark.parametrize("targets", [SD3.lora_targets, SD3.wide_lora_targets], ids=["published", "wide"])
@pytest.mark.parametrize("inject", [False, True], ids=["diffusers", "peft"])
def test_exported_lora_is_the_same_in_plain_diffusers(
    tiny: Case, tmp_path: Path, targets: tuple[str, ...], inject: bool, no_network: None
) -> None:
    adapter = trained(tiny, targets, inject)
    adapter.export_lora(tmp_path)
    plain = fresh(tiny)
    base = velocity(SD3.wrap(plain, max_sequence_length=16))
    plain.load_lora_weights(tmp_path)
    ours, theirs = velocity(adapter), velocity(SD3.wrap(plain, max_sequence_length=16))
    assert (ours - base).abs().max() > 1e-2
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)


def test_without_its_metadata_the_exported_lora_would_be_scaled_wrongly(tiny: Case, tmp_path: Path) -> None:
    adapter = trained(tiny, SD3.lora_targets, inject=False)
    layers = peft.get_peft_model_state_dict(adapter.networks["transformer"])
    StableDiffusion3Pipeline.save_lora_weights(tmp_path, transformer_lora_layers=layers)
    plain = fresh(tiny)
    plain.load_lora_weights(tmp_path)
    assert (velocity(SD3.wrap(plain, max_sequence_length=16)) - velocity(adapter)).abs().max() > 1e-3


def test_one_of_two_adapters_is_exported(tiny: Case, tmp_path: Path) -> None:
    adapter = trained(tiny, SD3.lora_targets, inject=False)
    network: Any = adapter.networks["transformer"]
    network.add_adapter(LoraConfig(r=2, target_modules=["attn.to_q"], init_lora_weights=False), "old")
    network.set_adapter("default")
    expected = velocity(adapter)
    adapter.export_lora(tmp_path / "lora")
    plain = fresh(tiny)
    plain.load_lora_weights(tmp_path / "lora")
    torch.testing.assert_close(velocity(SD3.wrap(plain, max_sequence_length=16)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("lora", [False, True])
def test_exported_transformer_is_the_same_in_plain_diffusers(tiny: Case, tmp_path: Path, lora: bool) -> None:
    adapter = trained(tiny, SD3.lora_targets, inject=False) if lora else tiny.adapter
    before = velocity(adapter)
    adapter.export_full(tmp_path)
    loaded = tiny.adapter.with_networks({"transformer": SD3Transformer2DModel.from_pretrained(tmp_path)})
    torch.testing.assert_close(velocity(loaded), before, atol=1e-5, rtol=1e-5)
    assert torch.equal(velocity(adapter), before)


# --- folders that are not pipelines


def refused(source: str | Path) -> str:
    with pytest.raises(UserError) as caught:
        SD3.load(source)
    message = str(caught.value)
    assert "\n" not in message and str(source) in message
    return message


@pytest.mark.parametrize("source", ["/no/such/folder", "./nothing", "nothing", "../a/b", "a/b/c", "~/nothing/x"])
def test_a_path_that_does_not_exist_is_refused_without_the_network(source: str, no_network: None) -> None:
    message = refused(Path(source).expanduser() if source.startswith("~") else source.removeprefix("./"))
    assert "does not exist" in message and "StableDiffusion3Pipeline" in message


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path: Path, no_network: None) -> None:
    assert "holds nothing" in refused(tmp_path)
    (tmp_path / "model.safetensors").touch()
    assert "no model_index.json, it holds model.safetensors" in refused(tmp_path)
    assert "it is a file" in refused(tmp_path / "model.safetensors")
    index = tmp_path / "model_index.json"
    index.write_text("{")
    assert "is not JSON" in refused(tmp_path)
    index.write_text("[]")
    assert "is a list" in refused(tmp_path)
    index.write_text('{"_class_name": "FluxPipeline"}')
    assert "is a FluxPipeline, and the sd3 adapter serves a StableDiffusion3Pipeline" in refused(tmp_path)


def test_a_folder_with_a_part_missing_is_refused(small: Case, tmp_path: Path, no_network: None) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(small.folder, folder)
    shutil.rmtree(folder / "vae")
    assert "cannot be loaded" in refused(folder)


def test_a_folder_from_which_t5_was_removed_loads_without_it(tiny: Case, tmp_path: Path, no_network: None) -> None:
    folder = tmp_path / "without-t5"
    shutil.copytree(tiny.folder, folder)
    shutil.rmtree(folder / "text_encoder_3")
    shutil.rmtree(folder / "tokenizer_3")
    context = SD3.load(folder, max_sequence_length=16).encode([Prompt(TEXTS[0])])["context"]
    assert bool((context[:, 16:] == 0).all()) and bool((context[:, :16] != 0).any())


def test_a_hub_id_that_cannot_be_had_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise OSError(f"cannot reach the hub for {name}\nmore text")

    monkeypatch.setattr(StableDiffusion3Pipeline, "load_config", fail)
    assert "cannot be had from the hub (cannot reach the hub for someone/something)" in refused("someone/something")


def test_wrong_sequence_length_and_scheduler_are_refused(tiny: Case) -> None:
    with pytest.raises(UserError, match="max_sequence_length is 513"):
        SD3.load(tiny.folder, max_sequence_length=513)
    pipeline = SD3.tiny().pipeline
    pipeline.scheduler = nn.Identity()
    with pytest.raises(UserError, match="the scheduler is a Identity"):
        SD3.wrap(pipeline)


# --- quiet


def test_loading_and_sampling_print_nothing(tiny: Case, capfd: pytest.CaptureFixture[str], recwarn: Any) -> None:
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    velocity(SD3.load(tiny.folder, max_sequence_length=16))
    assert capfd.readouterr() == ("", "")
    assert [str(w.message) for w in recwarn.list if "diffusers" in str(w.filename)] == []
    assert transformers_logging.is_progress_bar_enabled() == shown


def test_only_the_torchvision_notice_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("transformers.utils.import_utils")
    logger.addHandler(caplog.handler)
    try:
        logger.warning("`X` requires torchvision (not installed)")
        logger.warning("something else")
    finally:
        logger.removeHandler(caplog.handler)
    assert "torchvision" not in caplog.text and "something else" in caplog.text
