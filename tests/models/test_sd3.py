"""The SD3 adapter against the unmodified diffusers pipeline, on a small folder without T5 and a miniature with it."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from peft import LoraConfig
from torch import Tensor, nn

from limner.core import quiet
from limner.core.errors import UserError
from limner.core.types import Prompt
from limner.models.clip import word_tokenizer
from limner.models.sd3.adapter import SD3
from limner.models.sd3.settings import SD3Settings
from limner.rollout.score import in_parts
from sd3_case import TEXTS, WORDS, Case, call, noise, tiny_copy, velocity

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
        adapter = SD3.wrap(pipeline, SD3Settings(max_sequence_length=16, resolution=resolution))
        times = adapter.times(6)
        pipeline.set_progress_bar_config(disable=True)
        pipeline(TEXTS[0], latents=noise(adapter, 1), height=resolution, width=resolution, num_inference_steps=6)
        assert torch.equal(times, pipeline.scheduler.sigmas)
    assert not torch.equal(adapter.times(6), SD3.wrap(pipeline, SD3Settings(resolution=32)).times(6))


@pytest.mark.parametrize("shift", [-3.0, 0.0, math.nan])
def test_times_that_do_not_fall_are_refused(shift: float) -> None:
    """At a shift s a time t is s t / (1 + (s - 1) t), which lies between 0 and 1 for a positive s alone."""
    pipeline = SD3.tiny().pipeline
    pipeline.scheduler = pipeline.scheduler.from_config(pipeline.scheduler.config, shift=shift)
    adapter = SD3.wrap(pipeline, SD3Settings(max_sequence_length=16))
    for grid in ("own", "linear"):
        with pytest.raises(UserError, match="scheduler: its times must fall from at most 1 to 0"):
            adapter.times(6, grid)


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
            text,
            None,
            None,
            do_classifier_free_guidance=False,
            max_sequence_length=case.length,
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
    adapter = SD3.load(small.folder, SD3Settings(max_sequence_length=0), dtype=torch.bfloat16)
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
    adapter = SD3.load(tiny.folder, SD3Settings(max_sequence_length=16, resolution=64))
    assert (tiny.adapter.latent().shape, adapter.latent().shape) == ((16, 4, 4), (16, 8, 8))
    assert velocity(adapter).shape == (3, 16, 8, 8)
    with torch.no_grad():
        assert adapter.decode(noise(adapter, 1)).pixels.shape == (1, 3, 64, 64)
    for resolution in (24, 40):
        with pytest.raises(UserError, match=r"resolution is \d+ pixels; give a multiple of 16"):
            SD3.wrap(tiny.adapter.pipeline, SD3Settings(resolution=resolution))


def test_decoding_in_pieces_changes_nothing(small: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    x = noise(small.adapter, 5)
    with torch.no_grad():
        whole = small.adapter.decode(x).pixels
        monkeypatch.setattr("limner.models.parts.DECODE_PIXELS_CPU", 2 * 64 * 64)
        torch.testing.assert_close(small.adapter.decode(x).pixels, whole, atol=2e-5, rtol=0)


def test_fewer_decoded_at_once_are_the_same_to_rounding(small: Case) -> None:
    """Each piece is to the bit what it is alone; of the levels of all at once, few are off, and by one."""
    x, decode = noise(small.adapter, 5), small.adapter.decode
    with torch.no_grad():
        whole, few = decode(x), in_parts(decode, 2)(x)
        alone = [decode(part).pixels for part in x.split(2)]
    assert torch.equal(few.frames()[:, 0], torch.cat(alone)) and in_parts(decode, 0) is decode
    off = 255 * (few.rounded().frames() - whole.rounded().frames()).abs()
    assert off.max() < 1.01 and off.mean() < 0.01


def test_with_networks_leaves_the_original_alone(tiny: Case) -> None:
    before = velocity(tiny.adapter)
    other = tiny.adapter.with_networks({"transformer": tiny_copy(tiny)})
    torch.testing.assert_close(velocity(other), before)
    with torch.no_grad():
        for parameter in other.networks["transformer"].parameters():
            parameter.mul_(1.1)
    assert (velocity(other) - before).abs().max() > 1e-3
    assert torch.equal(velocity(tiny.adapter), before)


def test_a_linear_grid_is_what_the_pipeline_draws_when_asked(tiny: Case) -> None:
    """Equal sigmas before the shift, handed to the unmodified pipeline's own scheduler."""
    shift = tiny.plain.scheduler.config.shift
    equal = torch.linspace(1, 0, 6)
    torch.testing.assert_close(tiny.adapter.times(5, "linear"), shift * equal / (1 + (shift - 1) * equal))
    tiny.plain.scheduler.set_timesteps(sigmas=[1.0, 0.8, 0.6, 0.4, 0.2])
    assert torch.equal(tiny.adapter.times(5, "linear"), tiny.plain.scheduler.sigmas)
