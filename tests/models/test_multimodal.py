"""Multimodal language models: what transformers' own classes draw is what the adapter draws."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

import limner
from limner.algorithms.flow_grpo import FlowGRPO
from limner.core.errors import UserError
from limner.core.media import Images
from limner.core.rng import Rng
from limner.core.types import Prompt
from limner.engine.lora import lora
from limner.engine.precision import Precision
from limner.engine.start import start_from
from limner.models.emu3.dialect import EMU3
from limner.models.emu3.settings import Emu3Settings
from limner.models.janus.dialect import JANUS
from limner.models.llm import byte_tokenizer
from limner.models.multimodal import Multimodal
from limner.policies.tokens import TokenSampler
from limner.registry.served import kind_of
from limner.training.config import Evaluation, Lora, Model, Optimizer, RunConfig

DIALECTS = {"janus": JANUS, "emu3": EMU3}
PROMPTS = [Prompt("a red star"), Prompt("two very blue squares"), Prompt("")]


@pytest.fixture(scope="module", params=DIALECTS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("multimodal") / request.param
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Multimodal.tiny(DIALECTS[request.param], place)
    yield place


@pytest.fixture
def model(folder: Path) -> Multimodal:
    dialect = DIALECTS[folder.name]
    return Multimodal.load(dialect, folder, dialect.tiny_settings)


def written(model: Multimodal, folder: str, place: str, whole: bool, prompt: str, **call: Any) -> dict[str, Any]:
    """Return what the lines of a model card come to."""
    used: dict[str, Any] = {}
    exec("\n".join(model.use(repr(folder), repr(place), whole, prompt, call)), used)
    return used


def greedy(model: Multimodal, guidance: float, prompts: list[Prompt] = PROMPTS) -> torch.Tensor:
    index = torch.arange(len(prompts))
    policy = TokenSampler(guidance=guidance, top_k=1).policy(model)
    with torch.no_grad():
        return policy.sample(model.encode(prompts), index, index, index, rng=Rng((0,)), record=False).sample


def randomised(model: Multimodal, rank: int = 2) -> None:
    """Give the decoder a LoRA that changes it."""
    weights = lora(
        model.networks, rank=rank, alpha=6, targets=model.lora_targets, seed=0, old=False, precision=Precision()
    )
    with torch.no_grad():
        for name, parameter in weights.parameters().items():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))) / 4)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_generate_draws_the_same_picture(folder: Path, model: Multimodal, guidance: float) -> None:
    """Greedily, prompts of three lengths at once against one by one, with the guidance of its own processor."""
    assert kind_of(str(folder)) == folder.name
    ours = greedy(model, guidance)
    pictures = model.decode(ours).rounded().frames()[:, 0]
    for row, prompt in enumerate(PROMPTS):
        used = written(model, str(folder), str(folder), True, prompt.text, do_sample=False, guidance_scale=guidance)
        assert torch.equal(used["codes"].flatten().long(), ours[row])
        theirs = torch.from_numpy(np.array(used["image"])).permute(2, 0, 1) / 255
        assert theirs.shape == pictures[row].shape and (theirs - pictures[row]).abs().max() <= 1 / 255


@torch.no_grad()
def test_logits_are_those_of_the_whole_model(model: Multimodal) -> None:
    """Of a drawn picture, teacher-forced through the class's own forward pass; and step by step, with the cache."""
    tokens = torch.randint(12, (2, model.latent().shape[0]), generator=torch.Generator().manual_seed(1))
    condition, index = model.encode(PROMPTS), torch.tensor([1, 0])
    found = model.logits(tokens, condition, index)
    whole, (rows, columns) = model.whole, model.grid
    ids, mask = condition["ids"][index], condition["mask"][index]
    for row in range(2):
        words = ids[row][mask[row].bool()][None]
        if model.dialect is JANUS:
            embedded = whole.prepare_embeddings_for_image_generation(tokens[row][None])
            given = torch.cat([whole.get_input_embeddings()(words), embedded], 1)
            states = whole.model.language_model(inputs_embeds=given).last_hidden_state
            expected = whole.model.generation_head(states)[0, words.shape[1] - 1 : -1]
        else:
            lines = whole.vocabulary_mapping.convert_img2bpe(tokens[row].view(rows, columns)).view(1, -1)
            logits = whole(input_ids=torch.cat([words, lines.long()], 1)).logits[0, words.shape[1] - 1 : -1]
            codes = list(whole.vocabulary_mapping.img2bpe.values())
            expected = logits.view(rows, columns + 1, -1)[:, :-1].flatten(0, 1)[:, codes]
        torch.testing.assert_close(found[row], expected, atol=2e-6, rtol=1e-5)
    step, state = model.begin(condition, index)
    steps = [step]
    for place in range(tokens.shape[1] - 1):
        step, state = model.step(tokens[:, place], state)
        steps.append(step)
    torch.testing.assert_close(torch.stack(steps, 1), found, atol=2e-6, rtol=1e-5)
    assert found.std() > 0.05


@torch.no_grad()
def test_pictures_become_the_codes_that_the_tokenizer_finds(model: Multimodal) -> None:
    rows, columns = model.grid
    side = model.dialect.cell(model.whole)
    frames = torch.rand(2, 3, rows * side, columns * side, generator=torch.Generator().manual_seed(0))
    tokens, vqmodel = model.encode_media(Images(frames)), model.whole.model.vqmodel
    if model.dialect is JANUS:
        expected = vqmodel.encode(2 * frames - 1).image_tokens
    else:
        sizes = torch.tensor([frames.shape[-2:]] * 2)
        expected = torch.stack(list(vqmodel.encode(2 * frames - 1, sizes).image_tokens))
    assert tokens.shape == (2, rows * columns) and torch.equal(tokens, expected.reshape(2, -1))
    assert model.codebook().shape == (12, 4) and model.decode(tokens).pixels.shape == frames.shape


def test_what_is_exported_draws_what_was_trained(folder: Path, model: Multimodal, tmp_path: Path) -> None:
    """As peft loads it for the whole model, as the class's own load_adapter does, as a whole model, and as a start."""
    before = greedy(model, 3.0)
    randomised(model)
    ours = greedy(model, 3.0)
    assert not torch.equal(ours, before)
    model.export_lora(tmp_path / "lora")
    model.export_full(tmp_path / "full")
    call: dict[str, Any] = {"do_sample": False, "guidance_scale": 3.0}
    for place, whole in (("lora", False), ("full", True)):
        used = written(model, str(folder), str(tmp_path / place), whole, PROMPTS[0].text, **call)
        assert torch.equal(used["codes"].flatten().long(), ours[0])
    plain = model.dialect.cls.from_pretrained(folder, dtype=torch.float32)
    tuned = PeftModel.from_pretrained(plain, tmp_path / "lora")
    wrapped = Multimodal.wrap(model.dialect, model.tokenizer, tuned.base_model.model, model.settings)
    assert torch.equal(greedy(wrapped, 3.0), ours)
    adapted = {name.partition(".lora_")[0] for name, _ in tuned.named_parameters() if ".lora_" in name}
    assert adapted and all(f".{model.dialect.decoder}." in name for name in adapted)
    again = Multimodal.load(model.dialect, tmp_path / "full", model.settings)
    assert torch.equal(greedy(again, 3.0), ours)
    start = Multimodal.load(model.dialect, folder, model.settings)
    updates = start_from(str(tmp_path / "lora"), start.networks)
    assert updates is not None
    updates.merge(start.networks)
    assert torch.equal(greedy(start, 3.0), ours)


def test_a_run_trains_and_exports(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a red star\nblue\n")
    (tmp_path / "reward.py").write_text("def red(media, prompts):\n    return media.frames()[:, 0, 0].mean((1, 2))\n")
    config = RunConfig(
        name="multimodal",
        model=Model(path=str(folder), train=Lora(rank=2, alpha=4), settings=DIALECTS[folder.name].tiny_settings),
        prompts=str(tmp_path / "prompts.txt"),
        reward=f"{tmp_path}/reward.py:red",
        algorithm=FlowGRPO(clip_low=0.2, clip_high=0.2, clip_elements=1, kl_weight=0.01),
        sampler=TokenSampler(guidance=2.0),
        optimizer=Optimizer(lr=1e-2),
        evaluation=Evaluation(seeds=1),
        steps=1,
        prompts_per_step=2,
        group_size=4,
        micro_batch=8,
        out=str(tmp_path / "run"),
    )
    exported = limner.train(config, quiet=True).export()
    tensors = load_file(exported / "adapter_model.safetensors")
    assert sum(float(each.abs().sum()) for name, each in tensors.items() if "lora_B" in name) > 0
    assert DIALECTS[folder.name].cls.__name__ in (exported / "README.md").read_text()


def test_what_cannot_be_is_said(folder: Path, model: Multimodal, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["ChameleonForConditionalGeneration"]}))
    with pytest.raises(UserError, match="Chameleon.* cannot draw one; take Janus-Pro or Emu3"):
        kind_of(str(tmp_path))
    with pytest.raises(UserError, match=r"a prompt is \d+ tokens long .* max_sequence_length is 32: raise"):
        model.encode([Prompt("far too many words for a miniature")])
    with pytest.raises(UserError, match="has no bo[si]_token"):
        Multimodal.wrap(model.dialect, byte_tokenizer(), model.whole, model.settings)
    if folder.name == "emu3":
        with pytest.raises(UserError, match="resolution is 7 pixels; give a multiple of 2"):
            Multimodal.wrap(EMU3, model.tokenizer, model.whole, Emu3Settings(resolution=7)).latent()
