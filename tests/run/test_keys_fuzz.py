"""Any keys and values of a whole configuration: a run that could be tried, or one line before anything is tried."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import limner.run
from fuzzing import carried_out, end, examples, unwritten
from limner.recipes.yaml import to_yaml
from limner.registry.names import REGISTRIES, REWARDS
from run.miniature import Miniature

FILES = ("prompts", "evaluation.prompts", "model.path", "model.start", "reward_cache", "anchor.data", "out")
PLACES = ("", ".", "file", "file.txt", "folder", "nowhere", "pictures", "broken", "~nobodyhere", "a\0", "a" * 5000)
NUMBERED = (
    "steps", "prompts_per_step", "group_size", "micro_batch", "checkpoint_every", "seed", "anchor.weight",
    "sampler.steps", "sampler.guidance", "sampler.window", "sampler.window_range", "sampler.splits", "optimizer.lr",
    "optimizer.betas", "optimizer.ema", "optimizer.max_grad_norm", "evaluation.seeds", "evaluation.ode_steps",
    "evaluation.every", "model.train.rank", "model.settings.resolution", "algorithm.num_times", "algorithm.num_updates",
    "algorithm.clip_high", "algorithm.min_time",
)  # fmt: skip
NUMBERS = ("0", "1", "2", "-1", "0.5", "1e-9", "1e9", "10000", "100000000", "nan", "inf", "-inf", "none", "", "7,7")
LIGHT = [name for name in REWARDS if not name.startswith("emoji")]
JUDGES = ("rank(jpeg_size)", "jpeg_size.x", "win_rate(jpeg_size)", "running(jpeg_size)", "file.py", "", *LIGHT)
CHOSEN = {
    "algorithm": "algorithms", "sampler.dynamics": "dynamics", "sampler": "samplers", "source": "sources",
    "model.train": "trainings", "model.kind": "models",
}  # fmt: skip
KEYS = {
    **dict.fromkeys(FILES, PLACES),
    **dict.fromkeys(NUMBERED, NUMBERS),
    **dict.fromkeys(("reward", "evaluation.reward"), JUDGES),
    **{key: tuple(REGISTRIES[registry]) for key, registry in CHOSEN.items()},
    "device": ("cpu", "cuda", "cuda:9", "mps", "meta", "", "cpu:1"),
    "preset": ("dance_grpo", "flow_grpo", "gdpo", "diffusion_nft", "spo", "raft"),
}


@pytest.fixture(scope="module")
def place(miniature: Miniature, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    for name in ("folder", "pictures", "broken"):
        (folder / name).mkdir()
    (folder / "file").write_text("")
    (folder / "file.txt").write_text("two red stars\na blue circle\n")
    (folder / "file.py").write_text("x = 1\n")
    (folder / "broken/metadata.jsonl").write_text('{"file_name": "nowhere.png"}\n')
    Image.new("RGB", (8, 8)).save(folder / "pictures/a.png")
    (folder / "pictures/metadata.jsonl").write_text('{"file_name": "a.png", "prompt": "a star"}\n')
    (folder / "recipe.yaml").write_text(to_yaml(miniature.config(Path("new"))))
    return folder


@pytest.fixture(autouse=True)
def untried(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dry run itself is left out: it takes a second."""
    monkeypatch.chdir(place)
    monkeypatch.setattr(limner.run, "preflight", end)


PAIRS = st.sampled_from(sorted(KEYS)).flatmap(lambda key: st.tuples(st.just(key), st.sampled_from(KEYS[key])))


@examples(80)
@given(st.lists(PAIRS, min_size=1, max_size=3, unique_by=lambda pair: pair[0]))
def test_any_keys_of_a_whole_configuration(place: Path, values: list[tuple[str, str]]) -> None:
    with unwritten(place):
        carried_out(["train", "recipe.yaml", *(f"--{key}={value}" for key, value in values)])
