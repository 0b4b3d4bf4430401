"""Every adapter on an accelerator: a policy draws, scores, restores and learns there what it does on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from limner.core.needs import Renoising
from limner.core.rng import Rng
from limner.core.tree import leaves
from limner.core.types import Prompt, Rollout
from limner.diffusion.dynamics import DDIM, DPMSolver, FlowSDE
from limner.engine import checkpoint
from limner.engine.encoders import Encoding, visiting
from limner.engine.full import full
from limner.engine.lora import lora
from limner.engine.optim import Stepper
from limner.engine.precision import Precision
from limner.engine.weights import Weights
from limner.models.amused.adapter import Amused
from limner.models.amused.build import tiny_pipeline
from limner.models.dialect import Dialect
from limner.models.emu3.dialect import EMU3
from limner.models.gan.adapter import GAN, OWN
from limner.models.gan.build import Beside
from limner.models.gan.settings import GANSettings
from limner.models.janus.dialect import JANUS
from limner.models.multimodal import Multimodal
from limner.models.piped import Piped
from limner.models.sd.adapter import SD
from limner.models.sd3.adapter import SD3
from limner.models.sd3.settings import SD3Settings
from limner.models.tokens.adapter import Tokens
from limner.models.wan.adapter import Wan
from limner.policies.denoising import Denoising, Sampler
from limner.policies.masked import MaskedSampler, Partly
from limner.policies.one_step import OneStepSampler
from limner.policies.tokens import TokenSampler
from limner.registry import names
from limner.worlds.oracle.model import Oracle
from piped_cases import CASES, PICTURES, Case
from pretended_cuda import CUDA, pretended_cuda, waits
from toys import ToyDenoiser, toy_denoiser

EXACT = Precision()
PROMPTS = [Prompt(text, inputs={"image": picture}) for text, picture in zip("12", PICTURES, strict=True)]
INDEX, IDS = torch.tensor([0, 0, 1, 1]), torch.arange(4)


def sd3(device: torch.device) -> SD3:
    return SD3.wrap(SD3.tiny().pipeline.to(device), SD3Settings(max_sequence_length=16))


def wan(device: torch.device) -> Wan:
    tiny = Wan.tiny()
    return Wan.wrap(tiny.pipeline.to(device), tiny.settings)


def sd(kind: str) -> Callable[[torch.device], SD]:
    return lambda device: SD.wrap(SD.tiny(kind).pipeline.to(device))


def piped(case: Case) -> Callable[[torch.device], Piped]:
    return lambda device: Piped.wrap(case.family, case.miniature().to(device), case.family.tiny_settings)


def oracle(path: str) -> Callable[[torch.device], Oracle]:
    return lambda device: Oracle.load(path, device)


def toy(device: torch.device) -> ToyDenoiser:
    model = toy_denoiser(3)
    return model.with_networks({"network": model.network.to(device)})


MODELS = {
    "sd3": sd3,
    "sd15": sd("sd15"),
    "sd21": sd("sd21"),
    "sdxl": sd("sdxl"),
    **{name: piped(case) for name, case in CASES.items()},
    "wan": wan,
    "oracle": oracle("o1"),
    "oracle-noise": oracle("o3-noise"),
    "toy": toy,
}
"""The makers of denoisers by name, which begins with the kind."""


def tokens(device: torch.device) -> Tokens:
    parts = Tokens.tiny().parts
    return Tokens.wrap(parts._replace(decoder=parts.decoder.to(device), vqvae=parts.vqvae.to(device)))


def multimodal(dialect: Dialect) -> Callable[[torch.device], Multimodal]:
    def make(device: torch.device) -> Multimodal:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            tokenizer, whole = dialect.miniature()
        return Multimodal.wrap(dialect, tokenizer, whole.to(device), dialect.tiny_settings)

    return make


def amused(device: torch.device) -> Amused:
    pipeline = tiny_pipeline()
    for part in (pipeline.transformer, pipeline.vqvae, pipeline.text_encoder):
        part.to(device)
    return Amused.wrap(pipeline)


def gan(device: torch.device, settings: GANSettings = OWN) -> GAN:
    tiny = GAN.tiny()
    return GAN.wrap(tiny.sd3.pipeline.to(device), Beside(*(part.to(device) for part in tiny.beside)), settings)


OTHERS: dict[str, tuple[Callable[[torch.device], Any], Sampling]] = {
    "tokens": (tokens, TokenSampler(top_p=0.9, guidance=2.0)),
    **{dialect.kind: (multimodal(dialect), TokenSampler(guidance=2.0)) for dialect in (JANUS, EMU3)},
    "amused": (amused, MaskedSampler("plackett_luce", steps=4, guidance=2.0)),
    "gan": (gan, OneStepSampler(noise=0.3)),
    "gan, led": (partial(gan, settings=GANSettings("noise")), OneStepSampler("noise", noise=0.3)),
}
"""The makers of models that are no denoisers, and how they are drawn from."""


@pytest.mark.parametrize("kind", names.MODELS)
def test_every_kind_has_a_case(kind: str) -> None:
    assert any(name.startswith(kind) for name in [*MODELS, *OTHERS])


@pytest.mark.parametrize("name", OTHERS)
def test_what_does_not_denoise_works_there_as_on_the_cpu(name: str) -> None:
    """Drawn, scored again, decoded and learned from."""
    expected = drawn_once(name, torch.device("cpu"))
    with pretended_cuda() as cuda:
        found = drawn_once(name, cuda)
    for place, value in expected.items():
        torch.testing.assert_close(found[place], value, atol=1e-5, rtol=1e-4, msg=lambda m, p=place: f"{p}: {m}")


def drawn_once(name: str, device: torch.device) -> dict[str, Tensor]:
    """Return what is drawn, recorded, scored and learned by a model on `device`, brought to the CPU."""
    make, sampler = OTHERS[name]
    model = make(device)
    policy = sampler.policy(model)
    condition = model.encode(PROMPTS)
    with torch.no_grad():
        drawn = policy.sample(condition, INDEX, INDEX, IDS, rng=Rng(("cuda",)), record=True)
    rollout = Rollout(PROMPTS, INDEX, INDEX, condition, drawn.sample, drawn.trajectory, IDS, 0)
    path, pack = rollout.path, next(policy.pack(rollout, IDS, 8))
    ratio, shown = policy.distribution(pack, condition).log_ratio(pack.old, pack.choice), model.decode(drawn.sample)
    seen = path.states.tokens if isinstance(path.states, Partly) else path.states  # which evaluation is a place
    require(device, [*leaves(condition), drawn.sample, path.choices, *leaves(seen), *leaves(path.old)])
    require(device, [*leaves(pack.state), pack.prompt_index, ratio, *leaves(shown)])
    require(torch.device("cpu"), [path.mask, path.node, pack.row, pack.column])
    ratio.mean().backward()
    gradients = [p.grad for network in model.networks.values() for p in network.parameters() if p.grad is not None]
    require(device, gradients)
    found = {
        "sample": drawn.sample,
        "old": torch.cat([each.flatten().float() for each in leaves(path.old)]),
        "ratio": ratio,
        "shown": shown.frames(),
        "again": model.encode_media(shown.rounded()),
        "gradient": torch.stack([gradient.norm() for gradient in gradients]),
    }
    return {place: value.detach().cpu() for place, value in found.items()}


@pytest.mark.parametrize("name", MODELS)
def test_a_policy_works_there_as_on_the_cpu(name: str) -> None:
    expected = numbers(name, torch.device("cpu"))
    with pretended_cuda() as cuda:
        found = numbers(name, cuda)
    for place, value in expected.items():
        torch.testing.assert_close(found[place], value, atol=1e-5, rtol=1e-4, msg=lambda m, p=place: f"{p}: {m}")


@pytest.mark.parametrize("name", MODELS)
def test_networks_in_bfloat16_leave_the_rest_in_float32(name: str) -> None:
    with pretended_cuda() as cuda:
        exact, half = numbers(name, cuda), numbers(name, cuda, Precision("bfloat16"))
    assert {value.dtype for value in half.values()} == {torch.float32}
    if name.startswith(("sd", "wan")):  # the others multiply no matrices, or only zeros
        assert not torch.equal(half["decided"], exact["decided"])
    assert (half["decided"] - exact["decided"]).norm() < 0.1 * exact["decided"].norm()


def numbers(name: str, device: torch.device, precision: Precision = EXACT) -> dict[str, Tensor]:
    """Return what is drawn, recorded, scored, restored and learned by a model on `device`, brought to the CPU."""
    base = MODELS[name](device)
    model = full(base.networks, reference=False, old=False).actor(base, "policy", precision)
    dynamics = FlowSDE() if model.prediction == "velocity" else DDIM()
    policy = Denoising(model, Sampler(dynamics, 4, window=2, window_range=(0, 1), guidance=2.0))
    condition = model.encode(PROMPTS)
    with torch.no_grad():
        drawn = policy.sample(condition, INDEX, INDEX, IDS, rng=Rng(("cuda",)), record=True)
        plain = Denoising(model, Sampler(DPMSolver(), 4))
        sample = plain.sample(condition, INDEX, INDEX, IDS, rng=Rng(("cuda",)), record=False).sample
    rollout = Rollout(PROMPTS, INDEX, INDEX, condition, drawn.sample, drawn.trajectory, IDS, 0)
    pack = next(policy.pack(rollout, IDS, 8))
    again = next(policy.renoise(rollout, IDS, Renoising(2, "grid"), Rng(("cuda",)), 8))
    decided = policy.distribution(pack, condition)
    ratio = decided.log_ratio(pack.old, pack.choice)
    restored = policy.restore(again, condition).velocity
    shown = model.decode(sample)
    path = rollout.path
    require(
        device,
        [*leaves(condition), drawn.sample, *leaves(path.states), path.choices, *leaves(path.old), *leaves(shown)],
    )
    require(device, [*leaves(pack.state), pack.length, pack.prompt_index, again.state, again.t, again.prompt_index])
    require(torch.device("cpu"), [path.mask, path.node, pack.row, pack.column, again.row])
    numbers = [drawn.sample, path.choices, *leaves(path.old), *leaves(pack.state), again.state, again.t, ratio]
    assert {x.dtype for x in (*numbers, restored)} == {torch.float32}
    trained = [p for network in model.networks.values() for p in network.parameters()]
    ((ratio.mean() + restored.square().mean()) / 2).backward()
    gradients = [p.grad for p in trained if p.grad is not None]
    require(device, gradients)
    found = {
        "sample": drawn.sample,
        "plain": sample,
        "decided": decided.mean,
        "restored": restored,
        "shown": shown.frames(),
    }
    if name not in ("toy", "oracle", "oracle-noise"):
        found["latents"] = model.encode_media(shown)  # a level that is rounded may fall to either side
        require(device, [found["latents"]])
    found["gradient"] = torch.stack([gradient.norm() for gradient in gradients])
    return {place: value.detach().cpu() for place, value in found.items()}


LENGTHS_ARE_READ = ("z_image", "cogview4")
"""Texts of one length go through together there, as their networks take them."""
WAITING_THEMSELVES = (
    *("chroma", "qwen_image_edit_plus", "lumina2", "lumina2-dynamic", "hunyuan_image", "hidream", "mochi"),
    *("tokens", "janus", "emu3"),
)
"""The code of diffusers' network reads masks and copies tables in each evaluation, and that of transformers' a mask."""


@pytest.mark.parametrize("name", [*MODELS, *OTHERS])
def test_a_pass_waits_for_nothing(name: str) -> None:
    """Decisions are scored, and samples restored, with gradients, and all of it is asked for ahead of the card."""
    with pretended_cuda() as cuda:
        make, sampler = OTHERS.get(name) or (MODELS[name], None)
        model = make(cuda)
        dynamics = FlowSDE() if getattr(model, "prediction", "") == "velocity" else DDIM()
        policy = (sampler or Sampler(dynamics, 4, window=2, window_range=(0, 1), guidance=2.0)).policy(model)
        condition = model.encode(PROMPTS)
        with torch.no_grad():
            drawn = policy.sample(condition, INDEX, INDEX, IDS, rng=Rng(("cuda",)), record=True)
        rollout = Rollout(PROMPTS, INDEX, INDEX, condition, drawn.sample, drawn.trajectory, IDS, 0)
        with waits() as found:
            pack = next(policy.pack(rollout, IDS, 8))
            loss = policy.distribution(pack, condition).log_ratio(pack.old, pack.choice).mean()
            if isinstance(policy, Denoising):
                again = next(policy.renoise(rollout, IDS, Renoising(2, "grid"), Rng(("cuda",)), 8))
                loss = loss + policy.restore(again, condition).velocity.square().mean()
            loss.backward()
    assert bool(found) == (name in (*LENGTHS_ARE_READ, *WAITING_THEMSELVES)), found
    assert name in LENGTHS_ARE_READ or not any(" in limner/" in each for each in found), found


@pytest.mark.parametrize("name", [name for name in (*MODELS, *OTHERS) if name.split("-")[0] not in ("toy", "oracle")])
def test_what_is_kept_and_exported_there_is_what_the_cpu_writes(name: str, tmp_path: Path) -> None:
    """A step of the optimizer on a LoRA; then its checkpoint, from which another session goes on, and both exports."""
    expected = written(name, torch.device("cpu"), tmp_path / "cpu")
    with pretended_cuda() as cuda:
        found = written(name, cuda, tmp_path / "cuda")
    assert found.keys() == expected.keys() and any(place.startswith("lora/") for place in found)
    assert any(place.startswith("full/") for place in found)
    for place, value in expected.items():
        torch.testing.assert_close(found[place], value, atol=1e-6, rtol=1e-5, msg=lambda m, p=place: f"{p}: {m}")


def written(name: str, device: torch.device, folder: Path) -> dict[str, Tensor]:
    """Return by file and name every tensor that a checkpoint, a LoRA and whole networks have of a model on `device`."""
    make = OTHERS[name][0] if name in OTHERS else MODELS[name]

    def session() -> tuple[Any, Weights, Stepper]:
        model = make(device)
        targets = model.lora_targets
        weights = lora(model.networks, rank=2, alpha=4, targets=targets, seed=0, old=True, precision=EXACT)
        return model, weights, Stepper(weights.parameters(), lr=0.1, steps=4)

    model, weights, stepper = session()
    for i, parameter in enumerate(weights.parameters().values()):
        drawn = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i))
        parameter.grad = drawn.to(device)
    stepper.step()
    weights.blend_old(0.5)
    checkpoint.save(folder, 1, {"weights": weights.state(), "stepper": stepper.state()})
    kept = checkpoint.load(checkpoint.latest(folder))
    _, again, going_on = session()
    again.load_state(kept["weights"])
    going_on.load_state(kept["stepper"])
    require(device, [*again.parameters().values(), *again.old.values()])
    for mine, theirs in ((again.policy, weights.policy), (again.old, weights.old)):
        assert all(torch.equal(mine[place].cpu(), theirs[place].cpu()) for place in theirs)
    model.export_lora(folder / "lora")
    model.export_full(folder / "full")
    files = {path.relative_to(folder): load_file(path) for path in folder.rglob("*.safetensors")}
    moments = {place: each for place, each in enumerate(leaves(going_on.state())) if isinstance(each, Tensor)}
    return {f"{path}/{place}": each for path, every in files.items() for place, each in every.items()} | {
        f"{place}": each.detach().cpu() for place, each in moments.items()
    }


def require(device: torch.device, tensors: list[Tensor]) -> None:
    assert {x.device.type for x in tensors} == {device.type}


@pytest.mark.parametrize("name", MODELS)
def test_noise_that_stays_on_the_cpu_is_refused(name: str) -> None:
    """A sampler whose noise is where its grid of times is draws it on the CPU: no run could work."""
    with pretended_cuda() as cuda:
        model = MODELS[name](cuda)
        assert model.times(4).device.type == "cpu" and model.latent().device == CUDA
        noise, t = torch.zeros(2, *model.latent().shape), torch.full((2,), 0.5).to(cuda)
        with pytest.raises(RuntimeError, match="same device"):
            model.predict(noise, t, model.encode(PROMPTS), torch.tensor([0, 1]))


@pytest.mark.parametrize("name", ["sd3", "sd15", "sdxl", "qwen_image", "wan"])
def test_encoders_work_where_they_are(name: str) -> None:
    """They leave the device when they have encoded, come back for more, and work on the CPU too."""
    expected = list(leaves(MODELS[name](torch.device("cpu")).encode(PROMPTS)))
    with pretended_cuda() as cuda:
        model = MODELS[name](cuda)
        assert isinstance(model, Encoding)
        for _ in range(2):
            with visiting(model.encoders, cuda):
                require(cuda, [next(encoder.parameters()) for encoder in model.encoders])
                there = list(leaves(model.encode(PROMPTS)))
            require(torch.device("cpu"), [p for encoder in model.encoders for p in encoder.parameters()])
            assert model.latent().device == cuda
        away = list(leaves(model.encode(PROMPTS)))
        require(cuda, [*there, *away])
        for one, two, three in zip(expected, there, away, strict=True):
            assert torch.equal(one, two.cpu()) and torch.equal(one, three.cpu())


def test_encoders_stay_where_memory_is_shared() -> None:
    encoder = torch.nn.Linear(2, 2).double()
    with visiting([encoder], torch.device("cpu")):
        weight = encoder.weight
    assert encoder.weight is weight
