from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.utils import validate_repo_id

from limner.report.card import Card, model_card, write_card
from limner.report.data import Interval, Row

ROW = Row("Held-out | accuracy", Interval(0.47, 0.42, 0.52, 112), Interval(0.82, 0.78, 0.86, 112),
          Interval(0.35, 0.3, 0.4, 112))  # fmt: skip
CARD = Card(
    name="scenes-lora", base="limner/scenes", licence="apache-2.0", pipeline="StableDiffusion3Pipeline",
    sampler={"Sampler": "flow-matching Euler", "Steps": "10"}, reward="scenes", algorithm="Flow-GRPO",
    trained="LoRA, rank 32, alpha 64", load={"text_encoder_3": None, "tokenizer_3": None},
    call={"num_inference_steps": 10, "guidance_scale": 1.0, "max_sequence_length": 0, "negative_prompt": 'a "bad" one'},
    rows=[ROW], example="two red stars",
)  # fmt: skip


def code(text: str) -> str:
    return re.search(r"```python\n(.*?)```", text, re.S).group(1)  # type: ignore[union-attr]


def test_header_is_yaml_and_code_is_python() -> None:
    text = model_card(CARD)
    header = yaml.safe_load(text.split("---\n")[1])
    assert header["base_model"] == "limner/scenes" and header["license"] == "apache-2.0"
    assert "lora" in header["tags"]
    calls = [node for node in ast.walk(ast.parse(code(text))) if isinstance(node, ast.Call)]
    arguments = {k.arg: ast.literal_eval(k.value) for call in calls for k in call.keywords}
    assert arguments == {
        "text_encoder_3": None, "tokenizer_3": None, "num_inference_steps": 10, "guidance_scale": 1.0,
        "negative_prompt": 'a "bad" one', "max_sequence_length": 0, "prompt": CARD.example,
    }  # fmt: skip
    assert "| Steps | 10 |" in text and "load_lora_weights" in code(text) and "LoRA, rank 32, alpha 64" in text
    assert '| Negative prompt | `a "bad" one` |' in text
    assert "| Negative prompt | none |" in model_card(replace(CARD, call={}))


def test_clips_are_frames() -> None:
    text = model_card(replace(CARD, moves=True))
    header = yaml.safe_load(text.split("---\n")[1])
    assert header["pipeline_tag"] == "text-to-video" in header["tags"] and "text-to-image" not in text
    assert code(text).rstrip().endswith(".frames[0]")


def test_evaluation_is_a_table_with_intervals() -> None:
    text = model_card(CARD)
    assert (
        "| Held-out \\| accuracy | 47.0 % (42.0 to 52.0) | 82.0 % (78.0 to 86.0) | +35.0 points (30.0 to 40.0) |"
        in text
    )
    assert "## Evaluation" not in model_card(replace(CARD, rows=()))


def test_full_weights_load_from_their_own_folder() -> None:
    text = model_card(replace(CARD, trained="full weights", whole=True))
    assert (
        "load_lora_weights" not in text and 'from_pretrained("PATH/TO/THIS/FOLDER"' in text and "full weights" in text
    )


def test_whole_networks_take_the_place_of_the_bases_own() -> None:
    networks = {"transformer": "WanTransformer3DModel", "transformer_2": "WanTransformer3DModel"}
    card = replace(CARD, whole=True, pipeline="WanPipeline", base="a/b", networks=networks, load={"revision": "x"})
    assert code(model_card(card)).splitlines()[:-1] == [
        "from diffusers import WanPipeline, WanTransformer3DModel",
        "",
        'transformer = WanTransformer3DModel.from_pretrained("PATH/TO/THIS/FOLDER")',
        "transformer_2 = WanTransformer3DModel.from_pretrained(\"PATH/TO/THIS/FOLDER\", subfolder='transformer_2')",
        "pipe = WanPipeline.from_pretrained('a/b', transformer_2=transformer_2, transformer=transformer, revision='x')",
    ]


def test_the_code_of_a_bundled_base_runs() -> None:
    """As it stands, but for the folder of the result."""
    call = {"num_inference_steps": 1, "guidance_scale": 1.0, "max_sequence_length": 0}
    card = replace(CARD, base="scenes", bundled="limner.worlds.scenes.reward:BASE", call=call)
    lines = [line for line in code(model_card(card)).splitlines() if "load_lora_weights" not in line]
    found: dict[str, object] = {}
    exec("\n".join(lines), found)
    assert found["image"].size == (64, 64)  # type: ignore[attr-defined]


LICENCES = {"apache-2.0", "mit", "openrail++", "creativeml-openrail-m", "other"}
"""Of those that the Hub knows; another one must be "other" with a name of its own."""


@pytest.mark.parametrize("base", ["stabilityai/stable-diffusion-3.5-medium", "scenes", "./my models/sd3", ""])
@pytest.mark.parametrize("licence", ["apache-2.0", ""])
@pytest.mark.parametrize("whole", [False, True])
def test_the_header_is_what_the_hub_takes(base: str, licence: str, whole: bool, tmp_path: Path) -> None:
    """Read by the Hub's own client, by the rules of its validation that can be known offline."""
    write_card(tmp_path, replace(CARD, base=base, licence=licence, whole=whole))
    data = ModelCard.load(tmp_path / "README.md").data.to_dict()
    assert data["license"] in LICENCES and (data["license"] == "other") == ("license_name" in data)
    assert data["library_name"] == "diffusers" and data["pipeline_tag"] == "text-to-image"
    assert all(re.fullmatch(r"[a-z0-9-]+", tag) for tag in data["tags"]) and ("lora" in data["tags"]) != whole
    if base.startswith("stabilityai/"):
        validate_repo_id(data["base_model"])
        assert data["base_model"] == base and data["base_model_relation"] == ("finetune" if whole else "adapter")
        assert data.get("license_link") == (None if licence else f"https://huggingface.co/{base}")
    else:
        assert not {"base_model", "base_model_relation", "license_link"} & data.keys(), "no folder of a machine"
    assert set(data) <= {
        "base_model", "base_model_relation", "license", "license_name", "license_link", "library_name", "pipeline_tag",
        "tags",
    }  # fmt: skip


def test_a_card_on_the_hub_loads_from_there() -> None:
    assert 'load_lora_weights("me/my-lora")' in code(model_card(replace(CARD, place="me/my-lora")))


def test_what_a_pipeline_reads_and_is_told_otherwise_is_in_its_code() -> None:
    """Imports first, then the LoRA as it is read, and what no argument of the call can say."""
    card = replace(CARD, lora=(["from peft import PeftModel"], "pipe.net = PeftModel.of(pipe.net, {place})"),
                   told=["pipe.size = 64"])  # fmt: skip
    lines = code(model_card(card)).splitlines()
    assert lines[0] == "from diffusers import StableDiffusion3Pipeline" and lines[1] == "from peft import PeftModel"
    assert lines[-3] == 'pipe.net = PeftModel.of(pipe.net, "PATH/TO/THIS/FOLDER")'
    assert lines[-2] == "pipe.size = 64" and lines[-1].startswith("image = pipe(")
    whole = code(model_card(replace(card, whole=True)))
    assert "peft" not in whole and "pipe.size = 64" in whole
