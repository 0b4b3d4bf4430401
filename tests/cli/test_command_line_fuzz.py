"""Any words after `limner` do something, or are one line at once; no traceback, and nothing written.

What a command would do once its words were read is left out here: `tests/run` does it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import limner.annotate
import limner.bases
import limner.bench.oracle_report
import limner.bench.scenes
import limner.judges
import limner.run
from fuzzing import carried_out, end, examples, unwritten
from limner.recipes.override import keys_of
from limner.registry.names import BASES, RECIPES, REGISTRIES, REWARDS, WORLDS
from limner.training.config import RunConfig

COMMANDS = (
    "train", "check", "keys", "pretrain", "sample", "report", "export", "reward", "serve-reward", "annotate", "pairs",
    "bench", "list", "completion", "launch",
)  # fmt: skip
OWN = (
    "--preset", "--reward", "--prompts", "--seed", "--out", "--resume", "--accept-changes", "--quiet", "--count",
    "--steps", "--guidance", "--trust-code", "--push", "--private", "--world", "--host", "--port", "--token-env",
    "--judge-seconds", "--invite", "--votes", "--questions", "--active", "--database", "--address", "--seeds",
    "--nodes", "--gpus-per-node", "--sessions", "--judge", "--judge-gpus", "--run", "--setup", "--image", "--volume",
    "--budget", "--entry", "--help", "--version", "--", "-", "-h", "-x", "--=", "--=1", "---", "--.", "--a..b",
)  # fmt: skip
KEYS = sorted({".".join(path) for path in keys_of(RunConfig)})
NAMES = sorted({*RECIPES, *REWARDS, *WORLDS, *BASES, *(name for names in REGISTRIES.values() for name in names)})
ODD = (
    "", " ", "0", "1", "-1", "1e3", "1e999", "nan", "inf", "-inf", "0x10", "1_0", "1.5", "1,2", "1,", "[]", "(1,2",
    "true", "none", "null", "9" * 30, "9" * 5000, "٣", "a" * 5000, "a\0b", "\ud800", "\n", "é", "~", "~nobodyhere", "/",
    ".", "..", "nowhere", "nowhere.txt", "nowhere.py:f", ":", "a:", ":a", "os:path", "os.path:join", "__main__:x",
    "this:d", "a.b.c:d", ".:x", "..py:f", "file", "file.txt", "folder", "file/below", "folder/new", "scenes:train",
    "show", "make", "bash", "slurm", "oracles", "two red stars", "jpeg_size", "rank(scenes)", "-5", "http://[", "sqlite:///",
    "x://y", "[::1]", "%", "%s", "{0}", "*", "=", "a=b", "-o", "@file.txt", "me/x", "overall,", "overall,overall",
)  # fmt: skip


def words() -> st.SearchStrategy[str]:
    """Return words as people, and their slips, write them."""
    key = st.sampled_from([f"--{key}" for key in KEYS] + [*OWN])
    value = st.sampled_from([*NAMES, *ODD]) | st.text(max_size=6)
    return st.one_of(
        key, value, key.map(str.upper), st.builds(lambda k, v: f"{k}={v}", key, value), st.text(max_size=8)
    )


LINES = st.builds(
    lambda command, rest: [command, *rest],
    st.sampled_from(COMMANDS) | st.text(max_size=8),
    st.lists(words(), max_size=7),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    (folder / "folder").mkdir()
    (folder / "folder" / "note").write_text("mine")
    (folder / "file").write_text("")
    (folder / "file.txt").write_text("a star\n")
    (folder / "own.py").write_text(OWN_CODE)
    return folder


@pytest.fixture(autouse=True)
def idle(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No work is begun."""
    monkeypatch.chdir(place)
    for room, name in (
        (limner.run, "train"), (limner.run, "check"), (limner.bases, "_pretrain"), (limner.judges, "serve_reward"),
        (limner.judges, "examples"), (limner.annotate, "server"), (limner.bench.oracle_report, "bench"),
        (limner.bench.scenes, "bench"), ("limner.pairs", "make"), ("torch.multiprocessing", "spawn"),
        ("limner.report.file", "write_text"),
    ):  # fmt: skip
        monkeypatch.setattr(f"{room}.{name}" if isinstance(room, str) else f"{room.__name__}.{name}", end)


@examples(300)
@given(LINES)
def test_any_words_are_a_command_or_one_line(place: Path, arguments: list[str]) -> None:
    with unwritten(place):
        carried_out(arguments)


PLACES = (
    "file.txt",
    "folder",
    "nowhere",
    "own.py",
    "/",
    "",
    ".",
    "..",
    "os",
    "os.path",
    "limner.core",
    "a b.py",
    "a\0.py",
)
MEMBERS = ("f", "Own", "Picky", "Raises", "loose", "", ":", "a.b", "__name__", "__class__", "\ud800", "é")
OWN_CODE = """
from dataclasses import dataclass
loose = 3
def f(media, prompts): return [0.0] * len(prompts)
class Own: pass
@dataclass(frozen=True)
class Picky:
    n: int = 0
    def __post_init__(self): raise ValueError("two\\nlines")
@dataclass(frozen=True)
class Raises:
    n: int
    def __getattr__(self, name): raise RuntimeError(name)
"""


@examples(200)
@given(
    st.sampled_from(sorted(RECIPES)),
    st.lists(
        st.tuples(st.sampled_from(KEYS), st.sampled_from([*NAMES, *ODD]) | st.text(max_size=6)), min_size=1, max_size=3
    ),
)
@example("scenes", [("algorithm", "os:path"), ("sampler.dynamics", ".:x")])
def test_any_keys_with_any_values(place: Path, recipe: str, values: list[tuple[str, str]]) -> None:
    with unwritten(place):
        carried_out(["check", recipe, *(f"--{key}={value}" for key, value in values)])


@examples(100)
@given(
    st.sampled_from(["algorithm", "sampler", "sampler.dynamics", "source", "model.kind", "model.train", "model.path"]),
    st.builds("{}:{}".format, st.sampled_from(PLACES), st.sampled_from(MEMBERS)) | st.text(max_size=8),
)
def test_any_name_of_a_registry(place: Path, key: str, name: str) -> None:
    with unwritten(place):
        carried_out(["check", "scenes", f"--{key}={name}"])


@examples(60)
@given(st.builds("{}:{}".format, st.sampled_from(PLACES), st.sampled_from(MEMBERS)) | st.sampled_from(ODD))
def test_any_name_of_a_reward(place: Path, name: str) -> None:
    with unwritten(place):
        carried_out(["serve-reward", name])
        carried_out(["reward", "show", name])
