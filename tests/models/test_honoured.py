"""What of a model folder changes the computation: implemented, or refused by name; and folders that are damaged."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, LCMScheduler
from safetensors.torch import load_file, save_file

from limner.core.errors import UserError
from limner.core.types import Prompt
from limner.models.autoencoder import tiny_autoencoder
from limner.models.honoured import AUTOENCODER
from limner.models.piped import Piped
from limner.models.sd.adapter import SD
from limner.models.sd3.adapter import SD3
from limner.models.sd3.settings import SD3Settings
from piped_cases import CASES as PIPED


def changed(kind: str, part: str, **values: Any) -> Any:
    """Return a pipeline in memory whose part's configuration says something else."""
    if kind in PIPED:
        pipeline = PIPED[kind].miniature()
    else:
        pipeline = SD3.tiny().pipeline if kind == "sd3" else SD.tiny(kind).pipeline  # type: ignore[arg-type]
    pipeline.components[part].register_to_config(**values)
    return pipeline


@pytest.mark.parametrize(
    ("kind", "part", "values", "said"),
    [
        (
            "sdxl",
            "vae",
            {"latents_mean": [0.1] * 4},
            "vae has latents_mean [0.1, 0.1, 0.1, 0.1], which limner does not",
        ),
        ("sdxl", "vae", {"latents_std": [2.0] * 4}, "vae has latents_std"),
        ("sd15", "vae", {"shift_factor": 0.1}, "vae has shift_factor 0.1"),
        ("sd3", "vae", {"latents_std": [2.0] * 16}, "vae has latents_std"),
        ("sd15", "vae", {"in_channels": 4}, "vae has in_channels 4"),
        ("sd15", "unet", {"time_cond_proj_dim": 256}, "unet has time_cond_proj_dim 256"),
        ("sd15", "unet", {"in_channels": 9}, "unet has in_channels 9, and the vae has latent_channels 4"),
        ("sd15", "unet", {"out_channels": 8}, "unet has out_channels 8, and the vae has latent_channels 4"),
        ("sd15", "unet", {"class_embed_type": "timestep"}, "unet has class_embed_type timestep"),
        ("sd15", "unet", {"num_class_embeds": 7}, "unet has num_class_embeds 7"),
        ("sd15", "unet", {"addition_embed_type": "text_time"}, "unet has addition_embed_type text_time"),
        ("sdxl", "unet", {"addition_embed_type": "image"}, "(it must be text_time)"),
        ("sd15", "unet", {"encoder_hid_dim_type": "image_proj"}, "unet has encoder_hid_dim_type image_proj"),
        ("sd15", "unet", {"attention_type": "gated"}, "unet has attention_type gated"),
        ("sd15", "unet", {"cross_attention_dim": 99}, "unet has cross_attention_dim 99, and the text encoders give 32"),
        ("sdxl", "unet", {"addition_time_embed_dim": 4}, "six sizes and the pooled text make 56"),
        ("sd15", "unet", {"a_field_of_tomorrow": 3}, "unet has a_field_of_tomorrow 3"),
        (
            "flux",
            "transformer",
            {"in_channels": 20},
            "has in_channels 20, and four latent pixels of the vae",
        ),
        ("ltx", "vae", {"timestep_conditioning": True}, "vae has timestep_conditioning True, which limner does not"),
        ("ltx", "transformer", {"caption_channels": 9}, "caption_channels 9, and the text encoder gives 32"),
        ("chroma", "transformer", {"joint_attention_dim": 9}, "joint_attention_dim 9, and the text encoder gives 48"),
        ("flux2", "transformer", {"in_channels": 20}, "has in_channels 20, and four latent pixels of the vae have 16"),
        ("flux2", "transformer", {"joint_attention_dim": 9}, "three layers of the text encoder give 48"),
        ("flux2_klein", "vae", {"patch_size": (1, 1)}, "vae has patch_size (1, 1), which limner does not implement"),
        ("flux", "transformer", {"out_channels": 8}, "transformer has out_channels 8, which limner does not implement"),
        ("flux", "transformer", {"joint_attention_dim": 9}, "joint_attention_dim 9, and text_encoder_2 gives 48"),
        ("flux", "transformer", {"pooled_projection_dim": 9}, "pooled_projection_dim 9, and the text encoder gives 32"),
        ("flux", "vae", {"latents_mean": [0.1] * 4}, "vae has latents_mean"),
        ("flux", "scheduler", {"invert_sigmas": True}, "scheduler has invert_sigmas True"),
        ("qwen_image", "transformer", {"zero_cond_t": True}, "transformer has zero_cond_t True"),
        ("qwen_image", "transformer", {"in_channels": 20}, "has in_channels 20, and four latent pixels of the vae"),
        (
            "qwen_image",
            "transformer",
            {"joint_attention_dim": 9},
            "and the text encoder gives 32",
        ),
        ("qwen_image_edit", "transformer", {"guidance_embeds": True}, "transformer has guidance_embeds True"),
        ("qwen_image_edit_plus", "transformer", {"joint_attention_dim": 9}, "and the text encoder gives 32"),
        ("qwen_image", "vae", {"input_channels": 4}, "vae has input_channels 4"),
        ("z_image", "transformer", {"siglip_feat_dim": 8}, "transformer has siglip_feat_dim 8"),
        ("z_image", "transformer", {"cap_feat_dim": 9}, "cap_feat_dim 9, and the text encoder gives 32"),
        ("sana", "transformer", {"guidance_embeds": True}, "transformer has guidance_embeds True"),
        ("sana", "transformer", {"caption_channels": 9}, "caption_channels 9, and the text encoder gives 32"),
        ("sana", "scheduler", {"use_flow_sigmas": False}, "scheduler has use_flow_sigmas False"),
        ("pixart", "transformer", {"caption_channels": 9}, "caption_channels 9, and the text encoder gives 32"),
        ("pixart", "transformer", {"out_channels": 4}, "out_channels 4, and twice the vae's latent_channels are 8"),
        (
            "hunyuan_dit",
            "transformer",
            {"text_len": 78},
            "transformer has text_len 78, which limner does not implement",
        ),
        ("hunyuan_dit", "transformer", {"cross_attention_dim_t5": 9}, "9, and text_encoder_2 gives 24"),
        ("hunyuan_image", "transformer", {"text_embed_2_dim": 9}, "text_embed_2_dim 9, and text_encoder_2 gives 24"),
        ("hidream", "transformer", {"text_emb_dim": 9}, "text_emb_dim 9, and the first two text encoders give 64"),
        ("hidream", "transformer", {"caption_channels": [9, 9]}, "[9, 9], and the other two give [32, 24]"),
        ("hidream", "transformer", {"llama_layers": [0]}, "llama_layers for blocks 1, and it has 3"),
        ("sd3", "transformer", {"guidance_embeds": True}, "transformer has guidance_embeds True"),
        ("sd3", "transformer", {"in_channels": 33}, "transformer has in_channels 33"),
        ("sd3", "transformer", {"pooled_projection_dim": 5}, "and the text encoders give 96"),
        ("sd3", "scheduler", {"invert_sigmas": True}, "scheduler has invert_sigmas True"),
        ("sd3", "scheduler", {"stochastic_sampling": True}, "scheduler has stochastic_sampling True"),
        ("sd15", "scheduler", {"prediction_type": "flow_prediction"}, "scheduler has prediction_type flow_prediction"),
        ("sd15", "scheduler", {"thresholding": True}, "scheduler has thresholding True"),
        ("sd15", "scheduler", {"variance_type": "learned_range"}, "scheduler has variance_type learned_range"),
        ("sdxl", "scheduler", {"timestep_type": "continuous"}, "scheduler has timestep_type continuous"),
    ],
)
def test_what_is_not_honoured_is_refused_by_name(kind: str, part: str, values: dict[str, Any], said: str) -> None:
    pipeline = changed(kind, part, **values)
    with pytest.raises(UserError) as caught:
        if kind in PIPED:
            Piped.wrap(PIPED[kind].family, pipeline, PIPED[kind].family.tiny_settings)
        else:
            (SD3 if kind == "sd3" else SD).wrap(pipeline)  # type: ignore[attr-defined]
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_what_cannot_matter_passes() -> None:
    """Leftovers of other schedulers and settings of diffusers' own sampler: folders of the hub are full of them."""
    values = {"use_karras_sigmas": True, "sample_max_value": 1.0, "skip_prk_steps": True, "set_alpha_to_one": False}
    assert SD.wrap(changed("sdxl", "scheduler", clip_sample=False, **values)).is_xl
    assert SD3.wrap(changed("sd3", "transformer", something_new=None), SD3Settings(max_sequence_length=16))
    pipeline = changed("sd15", "vae", force_upcast=False)
    pipeline.scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
    with pytest.raises(UserError, match="scheduler is a LCMScheduler"):
        SD.wrap(pipeline)


def test_a_chain_without_a_signal_at_its_end_is_honoured() -> None:
    """Zero terminal SNR, the pure noise that 2.1's successors begin with: alpha is 0 there, and v is all they need."""
    pipeline = SD.tiny("sd21").pipeline
    config = pipeline.scheduler.config
    pipeline.scheduler = DDIMScheduler.from_config(
        config, rescale_betas_zero_snr=True, timestep_spacing="trailing", clip_sample=False
    )
    adapter = SD.wrap(pipeline)
    t = adapter.times(4)
    assert t[0] == 1 and float(adapter.schedule.alpha(t[:1])) == 0 and float(adapter.schedule.sigma(t[:1])) == 1


# --- damage


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {kind: tmp_path_factory.mktemp(kind) for kind in ("sdxl", "sd3")}
    SD.tiny("sdxl", made["sdxl"])
    SD3.tiny(made["sd3"])
    return made


@pytest.fixture(params=["sdxl", "sd3"])
def whole(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Path:
    return folders[request.param]


def cut(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def pointer(file: Path) -> None:
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def garbage(file: Path) -> None:
    file.write_bytes(b"\xff" * 5000)


def without_one(file: Path) -> None:
    tensors = load_file(file)
    tensors.pop(sorted(tensors)[3])
    save_file(tensors, file, {"format": "pt"})


def of_other_shape(file: Path) -> None:
    tensors = load_file(file)
    save_file({**tensors, sorted(tensors)[0]: torch.zeros(3, 3)}, file, {"format": "pt"})


def bare(file: Path) -> None:
    file.write_text("{}")


def listed(file: Path) -> None:
    file.write_text("[]")


def coded(file: Path) -> None:
    """Weights that some tool has packed into whole numbers."""
    name, weight = next((n, w) for n, w in load_file(file).items() if n.endswith(".weight"))
    save_file({**load_file(file), name: weight.to(torch.int8)}, file, {"format": "pt"})


def without_room(file: Path) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), "model_max_length": 0}))


WEIGHTS = [cut, pointer, emptied, garbage, without_one, of_other_shape, Path.unlink]
TEXTS = [cut, pointer, emptied, garbage, bare, listed, Path.unlink]
CASES = [
    *(("network/*.safetensors", harm) for harm in WEIGHTS),
    *(("vae/*.safetensors", harm) for harm in WEIGHTS),
    *(("text_encoder_2/*.safetensors", harm) for harm in WEIGHTS),
    *(("network/config.json", harm) for harm in TEXTS),
    *(("text_encoder/config.json", harm) for harm in TEXTS),
    *(("scheduler/scheduler_config.json", harm) for harm in TEXTS),
    *(("tokenizer/tokenizer.json", harm) for harm in TEXTS),
    *(("tokenizer_2/tokenizer_config.json", harm) for harm in TEXTS),
    *(("model_index.json", harm) for harm in TEXTS),
    ("network/*.safetensors", coded),
    ("tokenizer/tokenizer_config.json", without_room),
    *((part, shutil.rmtree) for part in ("network", "vae", "text_encoder", "tokenizer", "scheduler")),
]


def load(folder: Path) -> SD | SD3:
    xl = (folder / "unet").exists() or not (folder / "transformer").exists() and "sdxl" in str(folder)
    return SD.load(folder) if xl else SD3.load(folder, SD3Settings(max_sequence_length=16))


@pytest.mark.parametrize(
    ("whole", "where", "harm"),
    [(("sdxl", "sd3")[i % 2], *case) for i, case in enumerate(CASES)],  # either kind of folder, to halve the time
    indirect=["whole"],
    ids=lambda each: getattr(each, "__name__", each),
)
def test_a_damaged_folder_is_one_line(
    where: str, harm: Callable[[Path], None], whole: Path, tmp_path: Path, no_network: None
) -> None:
    """It names the folder, what is wrong, and is no traceback; none of the kinds loads with random weights."""
    folder = tmp_path / whole.name
    shutil.copytree(whole, folder)
    network = "unet" if (folder / "unet").exists() else "transformer"
    (file,) = folder.glob(where.replace("network", network))
    harm(file)
    with pytest.raises(UserError) as caught:
        load(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_a_pointer_is_named_as_what_it_is(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / whole.name
    shutil.copytree(whole, folder)
    pointer(folder / "vae" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(UserError, match="is a git-lfs pointer, and not the file itself: run `git lfs pull`"):
        load(folder)


@pytest.mark.parametrize("value", [[None, None], 5, ["diffusers", "NoSuch"], ["transformers", "AutoModel"]], ids=str)
@pytest.mark.parametrize("part", ["vae", "text_encoder"])
def test_an_index_that_names_something_else(part: str, value: Any, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / whole.name
    shutil.copytree(whole, folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, part: value}))
    with pytest.raises(UserError) as caught:
        load(folder)
    assert part in str(caught.value) or str(value[1]) in str(caught.value)


@pytest.mark.parametrize("parts", [["vae", "text_encoder", "unet", "transformer"], ["vae"]], ids=["all", "one"])
def test_weights_in_float16_only_load_and_are_named(
    parts: list[str], whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As the hub's `variant="fp16"`: what is read is the float16 number, in the run's precision."""
    folder = tmp_path / whole.name
    shutil.copytree(whole, folder)
    held = [part for part in parts if (folder / part).exists()]
    for part in held:
        (file,) = (folder / part).glob("*.safetensors")
        halves = {name: each.half() for name, each in load_file(file).items()}
        save_file(halves, file.with_suffix(".fp16.safetensors"), {"format": "pt"})
        file.unlink()
    with caplog.at_level(logging.WARNING):
        adapter, plain = load(folder), load(whole)
    assert f"holds {', '.join(sorted(held))} in float16 only" in caplog.text
    name, weight = next(iter(adapter.pipeline.vae.named_parameters()))
    assert torch.equal(weight, plain.pipeline.vae.get_parameter(name).half().float())
    a, b = (each.encode([Prompt("red star")])["context"] for each in (adapter, plain))
    torch.testing.assert_close(a, b, atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize(
    "changed", [("scaling_factor", None), ("scaling_factor", math.nan), ("scaling_factor", True), ("shift_factor", "x")]
)
def test_what_the_adapter_computes_with_must_be_a_number(changed: tuple[str, Any]) -> None:
    """A shift that is None is none at all, as the class has it."""
    autoencoder = tiny_autoencoder(4, 0.7, 0.2)
    autoencoder.register_to_config(shift_factor=None)
    AUTOENCODER.require("vae", autoencoder)
    autoencoder.register_to_config(**dict([changed]))
    with pytest.raises(UserError, match=f"vae has {changed[0]} .* is no finite number"):
        AUTOENCODER.require("vae", autoencoder)
