"""The comparison on scenes: its arithmetic, its table, and that a row is never run twice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from limner.bench import scenes
from limner.bench.budget import evaluations, operations
from limner.bench.entries import KINDS
from limner.bench.scenes import COLUMNS, bench, markdown, place, read_rows
from limner.build import assemble
from limner.cli import main
from limner.core.types import Prompt
from limner.models.sd.build import tiny_pipeline
from limner.recipes.named import recipe
from limner.recipes.override import override
from limner.training.config import Lora, RunConfig
from limner.training.loop import Hooks, train
from limner.training.state import State
from run.miniature import Miniature, make_miniature
from toys import Silent

OF = KINDS["denoisers"]
ENTRIES, CLOSER = OF.entries, OF.closer
OTHERS = [(kind, name) for kind, of in KINDS.items() if of is not OF for name in of.entries]
RESULTS = Path(__file__).parents[2] / "docs" / "results"


def configuration(name: str, seed: int, budget: int) -> RunConfig:
    return scenes.configuration(OF, name, seed, budget)


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    return make_miniature(tmp_path_factory.mktemp("miniature"))


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny Stable Diffusion pipeline."""
    folder = tmp_path_factory.mktemp("unet")
    tiny_pipeline("sd15").save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_fits_its_budget(name: str) -> None:
    config = configuration(name, 1, 55_000)
    assert config.steps * evaluations(config) <= 55_000 < (config.steps + 1) * evaluations(config)
    assert config.seed == 1 and config.evaluation.prompts == "scenes:heldout" and config.name == "bench-scenes"


def test_evaluations_by_hand() -> None:
    """Flow-GRPO with a window of 3 and no reference: 10 to draw, 3 to learn; with its penalty and all 9 steps: 28."""
    samples = configuration("Flow-GRPO", 0, 1).prompts_per_step * configuration("Flow-GRPO", 0, 1).group_size
    assert evaluations(configuration("Flow-GRPO", 0, 1)) == 13 * samples
    assert evaluations(configuration("Flow-GRPO, published", 0, 1)) == 28 * samples


def test_evaluations_with_a_shared_start_by_hand() -> None:
    """A window of one at 0 to 8 of 10: on average 5 steps as one sample, 5 as twelve; one decision by two networks."""
    samples = configuration("TempFlow-GRPO", 0, 1).prompts_per_step * configuration("TempFlow-GRPO", 0, 1).group_size
    assert evaluations(configuration("TempFlow-GRPO", 0, 1)) == 5 * samples + 5 * samples // 12 + 2 * samples


def test_evaluations_of_a_window_that_moves_by_hand() -> None:
    """MixGRPO stays 25 iterations at its first window, of steps 0 to 3: one sample before it, twelve from step 1 on."""
    config = configuration("MixGRPO", 0, 65_000)
    assert config.steps <= config.sampler.window_every
    assert evaluations(config) == 12 * (1 + 24 * 12 + 4 * 12)


def test_evaluations_of_a_tree_by_hand() -> None:
    """Four splits at the start: 1 + 2 + 4 + 8 + 6 x 16 states to draw from, 2 + 4 + 8 + 6 x 16 decisions to learn."""
    assert evaluations(configuration("BranchGRPO", 0, 1)) == 9 * (111 + 110)


@pytest.mark.parametrize(("kind", "name"), OTHERS)
def test_an_entry_of_another_kind_is_a_run(kind: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many iterations as its budget pays for, of 650 evaluations each, and the table's folder and name."""
    monkeypatch.setattr(scenes, "evaluations", lambda config: 650)
    config = scenes.configuration(KINDS[kind], name, 2, 65_000)
    assert config.steps == 100 and config.seed == 2 and config.evaluation.prompts == "scenes:heldout"
    assert config.name == f"bench-{KINDS[kind].name}" and config.out.endswith("-2") and config.name in config.out


def test_few_steps_are_counted_by_hand() -> None:
    """Four to draw, and for PSO three of two samples by two networks; the anchor is asked about a batch beside them."""
    few = KINDS["few_steps"]
    config = scenes.configuration(few, "PSO", 0, 1)
    assert evaluations(config) == 12 * (12 * 4 + 3 * 2 * 2)
    anchored = scenes.configuration(few, "PSO, anchored (DMDR)", 0, 1)
    assert evaluations(anchored) == evaluations(config) + anchored.anchor.batch


def test_operations_of_tokens_by_hand() -> None:
    """A product of a vector by P weights is 2 P operations; the rest, attention and the tokenizer, is little.

    Two samples are drawn for each picture, for guidance, and both are scored in each of two updates, forward and, as
    LoRA's weights alone learn, back once.
    """
    tokens = KINDS["tokens"]
    config = override(recipe(tokens.recipe), tokens.entries["Flow-GRPO"])
    assembly = assemble(replace(config, device="cpu"))
    decoder = assembly.model.networks["decoder"]
    products = sum(
        p.numel() for n, p in decoder.named_parameters() if p.ndim == 2 and "embed" not in n and "lora" not in n
    )
    words, written = assembly.model.encode([Prompt("a red star")])["ids"].shape[1], 64
    passes = 1 + config.algorithm.num_updates * 2
    about = config.prompts_per_step * config.group_size * 2 * passes * 2 * products * (words + written)
    assert 0.9 < operations(config) / about < 1.1


def test_no_two_entries_share_a_folder() -> None:
    assert len({place(of, name, 0, 1) for of in KINDS.values() for name in of.entries}) == len(ENTRIES) + len(OTHERS)


def given(folder: Path) -> Path:
    """Return a folder of two pairs."""
    for name, brightness in (("chosen", 200), ("rejected", 50)):
        (folder / "given" / name).mkdir(parents=True, exist_ok=True)
        for picture in ("a red star", "a blue circle"):
            Image.new("RGB", (8, 8), (brightness, 0, 0)).save(folder / "given" / name / f"{picture}.png")
    return folder / "given"


def test_evaluations_of_pairs_by_hand() -> None:
    """DPO asks two networks three times about both of 72 pairs, MaPO one; online, a pair of twelve that are drawn."""
    assert evaluations(configuration("DPO", 0, 1)) == 2 * 3 * 2 * 72 == 2 * evaluations(configuration("MaPO", 0, 1))
    assert evaluations(configuration("DPO, online", 0, 1)) == 12 * (12 * 10 + 2 * 3 * 2)


@pytest.mark.parametrize("name", ENTRIES)
def test_an_iteration_evaluates_what_it_is_billed_for(name: str, miniature: Miniature, unet: Path) -> None:
    """Never more; fewer where a group is all alike. Where its window is drawn, the bill is an average."""
    entry = configuration(name, 0, 1)
    if entry.sampler.shared_start:
        start = (2, 2) if entry.sampler.window_schedule == "random" else entry.sampler.window_range
        entry = replace(entry, sampler=replace(entry.sampler, window_range=start))
    size = 16 if entry.sampler.splits else 4
    path = unet if entry.model.kind == "sd" else miniature.model
    model = replace(entry.model, path=str(path), train=Lora(rank=2, alpha=4))
    config = replace(entry, model=model, prompts=str(miniature.prompts), prompts_per_step=2, group_size=size, steps=1)
    config = replace(config, reward=miniature.reward("redness"), device="cpu")
    if not config.source.draws:
        config = override(config, {"source.data": str(given(miniature.prompts.parent))})
    state, silent = State(), Silent()
    train(config, assemble(config).parts, state, Hooks(silent, silent, lambda state: None, lambda state: {}))
    assert 0.6 * evaluations(config) <= state.evaluations <= evaluations(config)


def row(name: str, seed: int, change: float, budget: int = 65_000) -> dict[str, str]:
    values = {
        "budget": budget,
        "entry": name,
        "algorithm": "AWM",
        "seed": seed,
        "before": 0.4,
        "after": 0.4 + change,
        "change": change,
        "curve": "100:0.4 200:0.5",
    }
    return {column: str(values.get(column, 1)) for column in COLUMNS}


def test_what_is_done_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    pytest.importorskip("matplotlib")
    seen = []
    monkeypatch.setattr(scenes, "run", lambda of, name, seed, budget: seen.append((name, seed)) or tmp_path)
    monkeypatch.setattr(
        scenes, "row_of", lambda of, name, seed, budget, folder: row(name, seed, 0.1 * (seed + 1), budget)
    )
    assert main(["bench", "scenes", "--seeds", "2", "--entry", "AWM", "--out", str(tmp_path)]) == 0
    assert "| AWM | 1 | 2 | 100.0 % | 40.0 % | 55.0 % | +15.0 (+10.0 to +20.0) |" in capsys.readouterr().out
    bench(tmp_path, 3, 65_000, ["AWM", "RAFT"])
    assert seen == [("AWM", 0), ("AWM", 1), ("AWM", 2), ("RAFT", 0), ("RAFT", 1), ("RAFT", 2)]
    assert len(read_rows(tmp_path / "scenes.csv")) == 6 and (tmp_path / "scenes.png").exists()
    assert (
        "| AWM | 1 | 1 | 100.0 % | 40.0 % | 50.0 % | +10.0 |" in bench(tmp_path, 1, 6_500, ["AWM"]) and len(seen) == 7
    )
    assert main(["bench", "scenes", "--entry", "AWN"]) == 2 and "AWM" in capsys.readouterr().err


def test_without_a_number_the_best_and_best_known_have_three_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("matplotlib")
    assert set(CLOSER) <= set(ENTRIES)
    monkeypatch.setattr(scenes, "run", lambda of, name, seed, budget: tmp_path)
    monkeypatch.setattr(scenes, "row_of", lambda of, name, seed, budget, folder: row(name, seed, 0.1, budget))
    bench(tmp_path, None, 65_000)
    seeds = {name: sum(found["entry"] == name for found in read_rows(tmp_path / "scenes.csv")) for name in ENTRIES}
    assert seeds == {name: 3 if name in CLOSER else 1 for name in ENTRIES}


def test_what_is_committed_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`limner bench scenes` in a fresh clone runs nothing, and writes the table and the plot's data that are there."""
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(scenes, "run", lambda of, name, seed, budget: pytest.fail(f"{name}, seed {seed} is missing"))
    (tmp_path / "scenes.csv").write_bytes((RESULTS / "scenes.csv").read_bytes())
    assert bench(tmp_path, None, 65_000) == (RESULTS / "scenes.md").read_text(encoding="utf-8")
    assert all(len(found["curve"].split()) > 2 for found in read_rows(tmp_path / "scenes.csv"))


def test_committed_rows_are_those_of_the_budget() -> None:
    """A run has as many iterations as its budget pays for: as many as it had when the rows were made."""
    rows = read_rows(RESULTS / "scenes.csv")
    steps = {(row["budget"], row["entry"]): int(row["iterations"]) for row in rows}
    assert {name for _, name in steps} == set(ENTRIES)
    assert steps == {(budget, name): configuration(name, 0, int(budget)).steps for budget, name in steps}


def test_a_curve_is_kept_in_the_table(tmp_path: Path) -> None:
    lines = [
        {"step": 0, "network_evaluations": 100},
        {"step": 1, "network_evaluations": 200, "heldout/overall": 0.41071},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert scenes.curve(tmp_path) == "200:0.4107"


def test_the_best_stands_first() -> None:
    lines = markdown([row("one", 0, 0.1), row("two", 0, 0.3)]).splitlines()
    assert lines[2].startswith("| two | 1 | 1 |") and "+30.0 |" in lines[2]
