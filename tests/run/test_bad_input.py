"""What cannot be carried out is one line and exit code 2, before anything is written."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from limner.cli import main
from limner.recipes.yaml import to_yaml
from run.miniature import Miniature

FILES = {
    "empty.txt": b"\n# nothing\n",
    "binary.txt": b"\xff\xfe\x00",
    "broken.jsonl": b'{"prompt": "a star"}\n{"prompt": \n',
    "prompts.csv": b"a star\n",
    "model/notes.txt": b"no model",
    "other/model_index.json": b'{"_class_name": "NoPipeline"}',
    "full/notes.txt": b"mine",
    "broken.py": b"import nothing_of_this_name\n",
    "norecipe.py": b"x = 1\n",
    "list.yaml": b"- 1\n",
    "odd.yaml": b"name: x\nstesp: 3\n",
    "file": b"",
    "folder.txt/notes": b"",
    "folder.yaml/notes": b"",
    "latin.jsonl": b'{"prompt": "caf\xe9"}',
    "many.jsonl": b'{"prompt": "a star", "n": 1' + b"0" * 5000 + b"}",
    "deep.jsonl": b"[" * 100_000,
    "nested.jsonl": b'{"prompt": "a star", "n": ' + b"[" * 600 + b"]" * 600 + b"}",
    "nan.jsonl": b'{"prompt": "a star", "n": NaN}',
    "large.jsonl": b'{"prompt": "a star", "n": [1e999]}',
    "twice.jsonl": b'{"prompt": "a star", "scene": {"n": 1, "n": 2}}',
    "waits.py": b"async def f(media, prompts):\n    return [0.0]\n",
    "half.jsonl": b'{"prompt": "\\ud800"}',
    "blank.jsonl": b'{"prompt": " "}',
    "list.jsonl": b'["a star"]',
    "pointer.txt": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "nul.txt": b"a star\0",
    "pairs/metadata.jsonl": b'{"file_name": "nowhere.png", "prompt": "a star"}',
    "numbers/metadata.jsonl": b'{"file_name": 3, "prompt": "a star"}',
    "untold/metadata.jsonl": b'{"file_name": "a.png"}',
    "raises.py": b"def recipe():\n    raise KeyError('x')\n",
    "leaves.py": b"import sys\ndef recipe():\n    sys.exit()\n",
    "leaves_at_once.py": b"import sys\nsys.exit(3)\n",
    "syntax.py": b"def recipe(:\n",
    "nulled.py": b"x = 1\0\n",
    "latin.py": b"x = '\xe9'\n",
    "recursive.py": b"def recipe():\n    return recipe()\n",
    "waits_too.py": b"async def recipe():\n    return None\n",
    "silent.py": b"class E(BaseException):\n    def __str__(self):\n        raise ValueError\n\n\n"
    b"def recipe():\n    raise E\n",
    "parts.py": b"import dataclasses, limner\ndef recipe():\n"
    b"    return dataclasses.replace(limner.recipe('scenes'), optimizer={'lr': 0.1})\n",
    "number.py": b"import dataclasses, limner\ndef recipe():\n"
    b"    return dataclasses.replace(limner.recipe('scenes'), algorithm=3)\n",
    "asks.py": b"def recipe(name):\n    return name\n",
    "wrong.py": b"import limner\ndef recipe():\n    return limner.RunConfig(name=3)\n",
    "text.py": b"import limner\ndef recipe():\n    return limner.RunConfig(name='x', steps='3')\n",
    "nothing.py": b"def recipe():\n    return None\n",
    "own.py": b"from dataclasses import dataclass\n\n\n@dataclass(frozen=True)\nclass Picky:\n    n: int = 0\n"
    b"    stochastic = step = deterministic = 1\n\n    def __post_init__(self):\n        assert self.n == 1, '1'\n",
}
LONG = "a" * 5000
HUGE = "9" * 5000

BAD = {
    "--group-size 1": "group_size is 1, but DiffusionNFT compares",
    "--prompts-per-step 0": "RunConfig: prompts_per_step must be at least 1 and at most 100000, got 0",
    "--sampler.steps 0": "Sampler: steps must be at least 1 and at most 10000, got 0",
    "--sampler.splits 1,1 --group_size 4": "sampler.splits (1, 1) must rise, from 0 on, to 2 at most",
    "--sampler.splits 0,1 --group_size 4": "sampler.splits divides a group at stochastic steps",
    "--sampler.splits 0,1 --sampler.dynamics FlowSDE --group_size 8": "sampler.splits (0, 1) divides a group into 4",
    "--algorithm FlowGRPO --algorithm.scale depth --sampler.dynamics FlowSDE": "FlowGRPO with algorithm.scale depth",
    "--sampler.window 5": "sampler.window 5: of 4 steps at most 3 are stochastic",
    "--optimizer.ema 1": "Optimizer: ema must be at least 0 and below 1, got 1.0",
    "--optimizer.max_grad_norm 0": "Optimizer: max_grad_norm must be above 0, got 0.0",
    "--optimizer.max_grad_norm -1": "Optimizer: max_grad_norm must be above 0, got -1.0",
    "--optimizer.betas 2,3": "Optimizer: betas must be at least 0 and below 1, got (2.0, 3.0)",
    "--optimizer.weight_decay -1": "Optimizer: weight_decay must be at least 0 and finite, got -1.0",
    "--sampler.guidance inf": "Sampler: guidance must be at least -1000 and at most 1000, got inf",
    "--evaluation.guidance -inf": "Evaluation: guidance must be at least -1000 and at most 1000, got -inf",
    "--anchor.weight inf": "DataAnchor: weight must be at least 0 and finite, got inf",
    "--evaluation.ode_steps -3": "Evaluation: ode_steps must be at least 0 and at most 10000, got -3",
    "--precision.dtype float8": "--precision.dtype cannot be 'float8'",
    "--algorithm FlowGRPO": "FlowGRPO scores stochastic steps, but the sampler's dynamics EulerODE",
    "--algorithm.num-times 9": "num_times 9 exceeds the sampler's 3 times",
    "--algorithm.beta -1": "DiffusionNFT: beta must be above 0 and finite, got -1.0",
    "--device quantum": "unknown device 'quantum'; use auto",
    "--prompts nowhere.txt": "prompts nowhere.txt: no such file",
    "--prompts empty.txt": "prompts empty.txt: the file holds no prompt",
    "--prompts binary.txt": "prompts binary.txt: not UTF-8 text",
    "--prompts broken.jsonl": "prompts broken.jsonl, line 2: not JSON",
    "--prompts prompts.csv": "prompts prompts.csv: unknown suffix",
    "--prompts model": "prompts model: unknown suffix",
    "--prompts=": "no prompts: give --prompts FILE",
    "--prompts scenes:trian": "prompts 'scenes:trian': unknown split; did you mean 'train'?",
    "--evaluation.prompts nowhere.txt": "prompts nowhere.txt: no such file",
    "--evaluation.reward jpg_size": "unknown reward 'jpg_size'; did you mean 'jpeg_size'?",
    "--reward jpg_size": "unknown reward 'jpg_size'; did you mean 'jpeg_size'?",
    "--reward jpeg_size:2": "reward 'jpeg_size:2': this is no expression such as 0.7 * scenes + 0.3 * jpeg_size; ",
    "--reward '1e999 * jpeg_size'": "reward '1e999 * jpeg_size': numbers must be finite",
    "--reward jpeg_size(quality=3)": "reward jpeg_size(quality=3): jpeg_size has no settings",
    "--reward nowhere.py:f": "reward 'nowhere.py:f': no such file",
    "--reward {rewards}:rednes": "reward '{rewards}:rednes': rewards.py has no 'rednes'; did you mean 'red",
    "--reward broken.py:f": "reward 'broken.py:f': broken.py does not import: ModuleNotFoundError at line 1",
    "--reward {rewards}:pairs": "reward 'pairs': expected one number a sample, shape (8,), got float32 of shape (8, 2)",
    "--model.path nowhere": "model: nowhere is not a folder (it does not exist)",
    "--model.path file": "model: file is not a folder (it is a file)",
    "--model.path model": "model: model is not a pipeline folder (it has no model_index.json, it holds notes.txt)",
    "--model.path other": "model: other is a NoPipeline",
    "--model.kind sd4": "--model.kind cannot be 'sd4'; did you mean 'sd'?",
    "--model.settings.max-sequence-length 1000": "model: max_sequence_length is 1000",
    "--model.train.targets attn.to_x": "LoRA target 'attn.to_x' is no linear layer",
    "--model.train.rank 0": "Lora: rank must be at least 1 and at most 65536, got 0",
    "--out full": "full exists and is no run folder",
    "--out file": "out: file cannot be made: file is a file",
    "--out file/below": "out: file/below cannot be made: file is a file; choose another with --out",
}

BAD |= {
    f"--steps {HUGE}": f"--steps needs an integer, got '{'9' * 39}...",
    "--steps \u0663": "--steps needs an integer, got '\u0663'",
    "--steps 1e3": "--steps needs an integer, got '1e3'",
    "--steps 9223372036854775808": "RunConfig: steps must be below 2^63, got 9223372036854775808",
    "--seed -1": "RunConfig: seed must be at least 0, got -1",
    "--seed true": "--seed needs an integer, got 'true'",
    "--group-size 1000000000000": "RunConfig: group_size must be at least 1 and at most 10000",
    "--prompts-per-step 1000000000000": "RunConfig: prompts_per_step must be at least 1 and at most 100000",
    "--sampler.steps 1000000000000": "Sampler: steps must be at least 1 and at most 10000",
    "--model.train.rank 1000000000000": "Lora: rank must be at least 1 and at most 65536",
    "--optimizer.lr nan": "--optimizer.lr needs a number, got 'nan'",
    "--optimizer.lr 1e400": "Optimizer: lr must be above 0 and below 1, got inf",
    "--optimizer.lr \u0661": "--optimizer.lr needs a number",
    "--optimizer.lr 1j": "--optimizer.lr needs a number",
    "--optimizer.betas 0.9": "--optimizer.betas needs 2 values",
    "--optimizer.betas [0.9,0.9": "--optimizer.betas needs 2 values",
    "--optimizer.betas a,b": "--optimizer.betas needs a number, got 'a'",
    "--model.train.targets (": "--model.train.targets needs values with commas between them, got '('",
    "--sampler.dynamics DDIM --sampler.dynamics.eta 2": "--sampler.dynamics: DDIM cannot be made: eta must be",
    "--sampler.dynamics FlowSDE --sampler.dynamics.noise-level -1": "--sampler.dynamics: FlowSDE cannot be made",
    "--sampler.dynamics own.py:Picky": "--sampler.dynamics: Picky cannot be made: 1",
    "--overlap maybe": "--overlap needs true or false, got 'maybe'",
    f"--name {LONG}": "name must be 1 to 100 characters",
    "--name=": "name must be 1 to 100 characters",
    "--name 'a\0'": "name must be 1 to 100 characters",
    f"--{'a.' * 3000}b 1": "unknown key --a.a.a.a.",
    f"--{LONG} 1": "unknown key --aaaa",
    "--preset=": "unknown preset ''",
    f"--preset {LONG}": "unknown preset 'aaaa",
    "--prompts ~nobodyhere.txt": "prompts: '~nobodyhere.txt': ~ begins the name of a user that is not known here",
    f"--prompts {LONG}.txt": "prompts: cannot look at 'aaaa",
    "--prompts 'a\0.txt'": "prompts: no file can be called 'a\\x00.txt'",
    "--prompts '\ud800.txt'": "prompts: no file can be called '\\ud800.txt'",
    "--prompts folder.txt": "prompts folder.txt: not a plain file",
    "--prompts nul.txt": "prompts nul.txt: a binary file",
    "--prompts pointer.txt": "prompts pointer.txt: a Git LFS pointer",
    "--prompts latin.jsonl": "prompts latin.jsonl: not UTF-8 text (byte 15)",
    "--prompts many.jsonl": "prompts many.jsonl, line 1: not JSON that can be read",
    "--prompts deep.jsonl": "prompts deep.jsonl, line 1: not JSON that can be read",
    "--prompts nan.jsonl": "prompts nan.jsonl, line 1: not JSON that can be read: NaN is no JSON number",
    "--prompts large.jsonl": "prompts large.jsonl, line 1: not JSON that can be read: '1e999' is too large a number",
    "--prompts twice.jsonl": "prompts twice.jsonl, line 1: not JSON that can be read: the key 'n' stands there twice",
    "--reward waits.py:f": "reward 'waits.py:f': f is async or yields",
    "--prompts half.jsonl": "prompts half.jsonl, line 1: not JSON that can be read",
    "--prompts blank.jsonl": 'prompts blank.jsonl, line 1: "prompt" must be a text that is not empty',
    "--prompts list.jsonl": "prompts list.jsonl, line 1: expected an object",
    "--evaluation.prompts ~nobodyhere.jsonl": "prompts: '~nobodyhere.jsonl': ~ begins",
    "--anchor.weight 0.1 --anchor.data ~nobodyhere": "pictures: '~nobodyhere': ~ begins",
    f"--anchor.weight 0.1 --anchor.data {LONG}": "pictures: cannot look at 'aaaa",
    "--anchor.weight 0.1 --anchor.data pairs": "picture pairs/nowhere.png cannot be read: No such file",
    "--anchor.weight 0.1 --anchor.data numbers": 'pictures numbers/metadata.jsonl, line 1: "file_name" must be a text',
    "--anchor.weight 0.1 --anchor.data untold": 'pictures untold/metadata.jsonl, line 1: no key "prompt" or "text"',
    "--model.path ~nobodyhere": "model: '~nobodyhere': ~ begins",
    f"--model.path {LONG}": "model: cannot look at 'aaaa",
    "--model.path 'a\0'": "model: no file can be called",
    "--reward-cache file": "reward_cache: file cannot be made: file is a file",
    "--reward ~nobodyhere.py:f": "reward '~nobodyhere.py:f': '~nobodyhere.py': ~ begins",
    "--algorithm 'a\0.py:F'": "--algorithm 'a\\x00.py:F': no file can be called 'a\\x00.py'",
    f"--algorithm {LONG}.py:F": "--algorithm 'aaaa",
    "--reward leaves_at_once.py:f": "reward 'leaves_at_once.py:f': leaves_at_once.py does not import: SystemExit",
    "--reward syntax.py:f": "reward 'syntax.py:f': syntax.py does not import: SyntaxError at line 1",
    "--reward '0 ** -1 * jpeg_size'": "reward '0 ** -1 * jpeg_size': '0 ** (-1)' is no finite number",
    "--reward '(-8) ** 0.5 * jpeg_size'": "reward '(-8) ** 0.5 * jpeg_size': '(-8) ** 0.5' is no finite number",
    "--reward '10 ** 400 * jpeg_size'": "reward '10 ** 400 * jpeg_size': '10 ** 400' is no finite number",
    f"--reward {'(' * 4000}": "reward '((((",
    "--reward 'gate(jpeg_size, jpeg_size >= 1, soft=-1)'": "Gate: soft must be at least 0 and finite, got -1",
    "--reward 'clip(jpeg_size, low=2, high=1)'": "reward clip(jpeg_size, low=2, high=1): low must not be above high",
    "--reward 'scheduled(jpeg_size, steps=1.5)'": "Scheduled: steps must be an integer, got 1.5",
    "--reward 'remote(url=3)'": "reward remote: url needs text, got 3",
    "--reward 'ocr(metric=3)'": "reward ocr: metric",
    "--reward 'vqa_score(question=3)'": "reward vqa_score: question needs text, got 3",
    "--out ~nobodyhere/x": "out: '~nobodyhere/x': ~ begins",
    f"--out {LONG}": "out: cannot look at 'aaaa",
    "--out 'a\0'": "out: no file can be called",
    "--out '\ud800'": "out: no file can be called",
    "--device 'cpu\0'": "unknown device 'cpu\\x00'",
    "extra": "unrecognized arguments: extra",
}

BAD |= {
    "--steps 1000000000": "RunConfig: steps must be at least 1 and at most 100000000, got 1000000000",
    "--micro-batch 1000000000": "RunConfig: micro_batch must be at least 1 and at most 100000000",
    "--group-size 1000000000": "RunConfig: group_size must be at least 1 and at most 10000",
    "--algorithm.num-times 1000000000": "DiffusionNFT: num_times must be at least 1 and at most 100000000",
    "--algorithm.num-updates 1000000000": "DiffusionNFT: num_updates must be at least 1 and at most 100000000",
    "--anchor.weight 0.1 --anchor.data scenes --anchor.batch 1000000000": "DataAnchor: batch must be at least 1 and",
    "--source Pictures --source.num-pairs 1000000000": "Pictures: num_pairs must be at least 1 and at most 10000000",
    "--source Pictures --source.num-pairs 0": "Pictures: num_pairs must be at least 1 and at most 10000000, got 0",
    "--group-size 10000 --prompts-per-step 100000 --micro-batch 100000000": "memory: the latents of the 1,000,000,000",
    "--algorithm.num-times 100000000 --algorithm.times logit_normal": "memory: the latents of the 8 samples of an",
    "--reward {rewards}": "reward {rewards}: which function of that file? Name it, as in {rewards}:my_function",
    "--name ../../x": "name must be 1 to 100 characters that can be printed, and no slash",
    "--name ..": "name must be 1 to 100 characters that can be printed, and no slash",
    "--name a/b": "name must be 1 to 100 characters that can be printed, and no slash",
    "--reward mine.py": "reward mine.py: which function of that file? Name it, as in mine.py:my_function",
    "--prompts scenes": "prompts scenes: unknown suffix ''; use .txt (a prompt a line) or .jsonl, or a world's split",
    "--algorithm flowgrpo": "--algorithm cannot be 'flowgrpo'; did you mean 'FlowGRPO'?",
    "--reward-cache file/below": "reward_cache: file/below cannot be made: file is a file; choose another with --rew",
}

BAD |= {
    "--reward '{rewards}:redness(x=1)'": "reward {rewards}:redness(x=1): settings are for built-in judges; write",
    "--reward 'gate(mine.py:f, mine.py:f > 1)'": "reward 'gate(mine.py:f, mine.py:f > 1)': a condition is EXPRESSION "
    ">= NUMBER, got mine.py:f > 1",
    "--reward 'worst(1, jpeg_size)'": "reward 'worst(1, jpeg_size)': worst(...) takes expressions; numbers have",
    "--reward 'frames_main(jpeg_size)'": "reward 'frames_main(jpeg_size)': unknown function 'frames_main'; did you "
    "mean 'frames_m",
    "--reward jpeg_size.part": "reward jpeg_size.part: jpeg_size has no component 'part' (it reports: none)",
    "--sampler TokenSampler --algorithm FlowGRPO": "sampler TokenSampler draws from a TokenModel, which SD3 is not: "
    "take --sampler Sampler",
    "--sampler MaskedSampler --algorithm FlowGRPO": "sampler MaskedSampler draws from a MaskedModel, which SD3 is not",
    "--model.path scenes_tokens --sampler OneStepSampler --algorithm FlowGRPO": "sampler OneStepSampler draws from a "
    "OneStepModel or Denoiser, which Tokens is not: take --sampler TokenSampler",
    "--model.path scenes_tokens": "sampler Sampler draws from a Denoiser, which Tokens is not: take --sampler Token",
    "--model.path scenes_tokens --sampler MaskedSampler --algorithm FlowGRPO": "sampler MaskedSampler draws from a "
    "MaskedModel, which Tokens is not: take --sampler TokenSampler",
    "--algorithm FlowGRPO --sampler.dynamics FlowSDE --sampler.dynamics.noise-level 1e-300": "--sampler.dynamics: "
    "FlowSDE cannot be made: noise_level must be at least 1e-06, or 0 for no noise",
    "--prompts nested.jsonl": "prompts nested.jsonl, line 1: not JSON that can be read: nested too deep: at most 50",
}

RECIPES = {
    "folder.yaml": "recipe folder.yaml: not a plain file",
    "~nobodyhere.yaml": "recipe: '~nobodyhere.yaml': ~ begins the name of a user",
    f"{LONG}.yaml": "recipe: cannot look at 'aaaa",
    "a\0.py": "recipe: no file can be called 'a\\x00.py'",
    LONG: "unknown recipe 'aaaa",
    "raises.py": "recipe raises.py: recipe(): KeyError at line 2: 'x'",
    "leaves.py": "recipe leaves.py: recipe(): SystemExit at line 3",
    "leaves_at_once.py": "recipe leaves_at_once.py: leaves_at_once.py does not import: SystemExit at line 2: 3",
    "syntax.py": "recipe syntax.py: syntax.py does not import: SyntaxError at line 1",
    "nulled.py": "recipe nulled.py: nulled.py does not import: ",
    "latin.py": "recipe latin.py: latin.py does not import: SyntaxError",
    "recursive.py": "recipe recursive.py: recipe(): RecursionError at line 2",
    "asks.py": "recipe asks.py: recipe(): TypeError",
    "waits_too.py": "recipe waits_too.py: the file has no function recipe() that returns a limner.RunConfig",
    "silent.py": "recipe silent.py: recipe(): E at line 7: <exception str() failed>",
    "parts.py": "recipe parts.py: recipe(): RunConfig: optimizer must be Optimizer, got {'lr': 0.1}",
    "number.py": "recipe number.py: recipe(): RunConfig: algorithm must be Algorithm, got 3",
    "wrong.py": "recipe wrong.py: recipe(): RunConfig: name must be text, got 3",
    "text.py": "recipe text.py: recipe(): RunConfig: steps must be an integer, got '3'",
    "nothing.py": "recipe nothing.py: the file has no function recipe() that returns a limner.RunConfig",
    "norecipe.py": "recipe norecipe.py: the file has no function recipe()",
    "list.yaml": "list.yaml is not a run's configuration",
    "odd.yaml": "odd.yaml: unknown key stesp; the nearest known key is steps",
}


@pytest.fixture(scope="module")
def place(miniature: Miniature, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sound recipe, and files that are not."""
    folder = tmp_path_factory.mktemp("place")
    for name, content in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "recipe.yaml").write_text(to_yaml(miniature.config(Path("run"))))
    return folder


@pytest.fixture(autouse=True)
def nothing_is_written(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(place)
    before = snapshot(place)
    yield
    assert snapshot(place) == before


def snapshot(folder: Path) -> list[tuple[str, int]]:
    paths = (path for path in folder.rglob("*") if "__pycache__" not in path.parts)
    return sorted((str(path), os.stat(path).st_mtime_ns) for path in paths)


@pytest.mark.parametrize("arguments", BAD, ids=lambda arguments: ascii(arguments)[:60])
def test_bad_values(arguments: str, miniature: Miniature, capsys: pytest.CaptureFixture[str]) -> None:
    rewards = str(miniature.folder / "rewards.py")
    words = [word.format(rewards=rewards) for word in shlex.split(arguments)]
    assert main(["train", "recipe.yaml", "--quiet", *words]) == 2
    require_one_line(capsys, BAD[arguments].format(rewards=rewards))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: ascii(recipe)[:60])
def test_bad_recipes(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", recipe]) == 2
    require_one_line(capsys, RECIPES[recipe])


def require_one_line(capsys: pytest.CaptureFixture[str], beginning: str) -> None:
    printed = capsys.readouterr()
    assert len(printed.err) < 1000
    assert printed.err.startswith(f"limner: {beginning}"), printed.err
    assert printed.err.count("\n") == 1 and printed.err.endswith("\n") and not printed.out


def test_a_run_is_not_written_over(miniature: Miniature, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither by accident, nor by resuming it under another configuration."""
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "run"
    recipe.write_text(to_yaml(miniature.config(out, steps=1)))
    assert main(["train", str(recipe), "--quiet"]) == 0
    before = snapshot(tmp_path)
    capsys.readouterr()
    assert main(["train", str(recipe), "--quiet"]) == 2
    require_one_line(capsys, f"{out} holds a run already: continue it with --resume, or choose another folder")
    assert main(["train", str(recipe), "--quiet", "--resume", "--seed", "2"]) == 2
    require_one_line(capsys, f"{out} holds a run of another configuration; resume it with: limner train {out}")
    assert snapshot(tmp_path) == before


def test_check_says_what_it_found_and_writes_nothing(
    miniature: Miniature, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flow = "--sampler.dynamics FlowSDE --algorithm FlowGRPO --precision.activation-checkpointing true"
    assert main(["check", "recipe.yaml", *flow.split()]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == "recipe miniature, seed 0".split()
    assert lines[1].startswith("prompts      ")
    assert lines[2].startswith("held out     ")
    assert "2 prompts x 4 samples = 8 samples, 24 decisions or noised samples to learn from, in passes of 8" in lines[3]
    assert "3 iterations, 24 samples" in lines[4]
    assert any(line.startswith("reward       redness: ") and line.endswith(" on two samples") for line in lines)
    # 1e-4 nats per element were published for 65,536 elements; a latent here has 64.
    assert lines[-1].endswith("clip range 1.0e-01 and 1.0e-01 nats per latent element")
