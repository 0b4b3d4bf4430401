"""A name of the user's own is found, loaded once, and found by again; what is wrong is one line."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from limner.core.errors import UserError
from limner.core.media import Images
from limner.core.types import Prompt
from limner.judges import own_reward
from limner.registry.file import import_file
from limner.registry.find import find, name_of, require_seam
from limner.registry.names import ALGORITHMS, DYNAMICS, SEAMS

SOURCE = '''"""A user's file."""
from dataclasses import dataclass
import torch
from my_helper_of_the_test import scale

@dataclass
class Judge:
    factor: float
    def __call__(self, media, prompts):
        return media.frames().mean((1, 2, 3, 4)) * self.factor

WEIGHT = 3
state = []
double = Judge(scale)
# no `from __future__` here: annotations must be objects
def brightness(media, prompts: list) -> torch.Tensor:
    return media.frames().mean((1, 2, 3, 4))
def register(media, prompts):
    state.append(len(state))
    return state
def one(media): return 0
'''


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    before = sys.path.copy()
    (tmp_path / "mine.py").write_text(SOURCE)
    (tmp_path / "my_helper_of_the_test.py").write_text("scale = 2.0\n")
    yield tmp_path
    sys.path[:] = before
    sys.modules.pop("my_helper_of_the_test", None)


def test_files_of_two_folders_import_what_lies_beside_each(tmp_path: Path) -> None:
    """Modules and packages of one name; the first file is read again after the second."""
    before, names = sys.path.copy(), ("beside_of_the_test", "parts_of_the_test")
    text = f"import {names[0]}\nfrom {names[1]}.inner import word\nfound = ({names[0]}.word, word)\n"
    try:
        for turn in (1, 2):
            for name in ("one", "two"):
                (tmp_path / name / names[1]).mkdir(parents=True, exist_ok=True)
                (tmp_path / name / f"{names[0]}.py").write_text(f"word = {name!r}\n")
                (tmp_path / name / names[1] / "__init__.py").write_text("")
                (tmp_path / name / names[1] / "inner.py").write_text(f"word = {name.upper()!r}\n")
                (tmp_path / name / "mine.py").write_text(text + f"turn = {turn}\n")
                found = import_file(tmp_path / name / "mine.py", "it")
                assert found["found"] == (name, name.upper()) and found["turn"] == turn
    finally:
        sys.path[:] = before
        for name in [name for name in sys.modules if name.startswith(names)]:
            del sys.modules[name]


MEDIA = Images(torch.tensor([0.25, 0.5]).view(2, 1, 1, 1).expand(2, 3, 4, 4))
PROMPTS = [Prompt("a"), Prompt("b")]


def test_loads_functions_and_instances_with_their_folder_importable(folder: Path) -> None:
    brightness = own_reward(f"{folder}/mine.py:brightness")
    assert brightness(MEDIA, PROMPTS).tolist() == [0.25, 0.5]
    assert own_reward(f"{folder}/mine.py:double")(MEDIA, PROMPTS).tolist() == [0.5, 1.0]
    assert brightness.__annotations__["prompts"] is list


def test_relative_paths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert own_reward("mine.py:brightness")(MEDIA, PROMPTS).tolist() == [0.25, 0.5]


def test_a_file_is_imported_once_until_it_changes(folder: Path) -> None:
    assert own_reward(f"{folder}/mine.py:register") is own_reward(f"{folder}/mine.py:register")
    before = own_reward(f"{folder}/mine.py:register")
    (folder / "mine.py").write_text(SOURCE + "\n# changed\n")
    assert own_reward(f"{folder}/mine.py:register") is not before


def test_two_files_of_one_name_do_not_meet(folder: Path) -> None:
    other = folder / "other"
    other.mkdir()
    (other / "mine.py").write_text("def brightness(media, prompts): return [7, 7]\n")
    assert own_reward(f"{other}/mine.py:brightness")(MEDIA, PROMPTS) == [7, 7]
    assert own_reward(f"{folder}/mine.py:brightness")(MEDIA, PROMPTS).tolist() == [0.25, 0.5]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mine.py:", "expected FILE.py:NAME or package.module:NAME"),
        (":brightness", "expected FILE.py:NAME or package.module:NAME"),
        ("not_there.at_all:f", "cannot import not_there.at_all (No module named 'not_there')"),
        ("{}/mine.txt:f", "is not a Python file (its name must end in .py)"),
        ("{}/nowhere.py:f", "no such file"),
        ("{}/dir.py:f", "no such file"),
        ("{}/mine.py:brigthness", "mine.py has no 'brigthness'; did you mean 'brightness'?"),
        ("{}/empty.py:f", "empty.py has no 'f'; it defines nothing"),
        ("{}/mine.py:WEIGHT", "WEIGHT is no function (media, prompts) -> scores: int"),
        ("{}/mine.py:Judge", "Judge is a class; write `my_reward = Judge(...)` there and name my_reward"),
        ("{}/mine.py:one", "one(media) does not accept (media, prompts): too many positional arguments"),
        ("{}/syntax.py:f", "syntax.py does not import: SyntaxError at line 2"),
        ("{}/raises.py:f", "raises.py does not import: ValueError at line 3: two lines"),
        ("{}/needs.py:f", "needs.py does not import: ModuleNotFoundError at line 1: No module named 'not_there'"),
        ("{}/exits.py:f", "exits.py does not import: SystemExit at line 1: 3"),
        ("{}/binary.py:f", "binary.py does not import: "),
    ],
)
def test_errors_are_one_line_for_a_person(folder: Path, spec: str, message: str) -> None:
    (folder / "dir.py").mkdir()
    (folder / "mine.txt").write_text("")
    (folder / "empty.py").write_text("")
    (folder / "syntax.py").write_text("x = 1\ndef f(:\n")
    (folder / "raises.py").write_text("def g():\n    pass\nraise ValueError('two\\nlines')\n")
    (folder / "needs.py").write_text("import not_there\n")
    (folder / "exits.py").write_text("raise SystemExit(3)\n")
    (folder / "binary.py").write_bytes(b"\x89PNG\r\n\0\xff")
    spec = spec.format(folder)
    with pytest.raises(UserError) as caught:
        own_reward(spec)
    text = str(caught.value)
    assert text.startswith(f"reward {spec!r}: ") and message in text and "\n" not in text


def test_a_file_that_failed_is_tried_again(folder: Path) -> None:
    (folder / "raises.py").write_text("import missing_for_now\ndef f(media, prompts): return [1, 2]\n")
    with pytest.raises(UserError):
        own_reward(f"{folder}/raises.py:f")
    (folder / "missing_for_now.py").write_text("")
    assert own_reward(f"{folder}/raises.py:f")(MEDIA, PROMPTS) == [1, 2]
    sys.modules.pop("missing_for_now")


OWN = """
from dataclasses import dataclass
@dataclass(frozen=True)
class Mine:
    noise: float = 0.5
    stochastic = True
    def step(self, x, estimate, t, s, schedule): ...
    def deterministic(self): ...
@dataclass(frozen=True)
class Part:
    stochastic = True
@dataclass
class Loose:
    pass
class Plain:
    pass
def function(): ...
"""


def test_a_class_is_found_by_its_name_again(folder: Path) -> None:
    (folder / "own.py").write_text(OWN)
    mine = find(DYNAMICS, "dynamics", f"{folder}/own.py:Mine")
    name = name_of(DYNAMICS, mine)
    assert name == f"{(folder / 'own.py').resolve()}:Mine" and find(DYNAMICS, "dynamics", name) is mine
    assert name_of(ALGORITHMS, find(ALGORITHMS, "algorithm", "DDPO")) == "DDPO"
    assert name_of(ALGORITHMS, Images) == "limner.core.media:Images"
    assert find(ALGORITHMS, "algorithm", "limner.core.media:Images") is Images


def test_a_class_that_nobody_finds_again_has_no_name() -> None:
    @dataclasses.dataclass(frozen=True)
    class Hidden:
        pass

    with pytest.raises(UserError, match="Hidden is defined in a session or a function"):
        name_of(ALGORITHMS, Hidden)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Part", "it lacks step, deterministic; it must have stochastic, step, deterministic"),
        ("Loose", "it is a dataclass that can be changed: write @dataclass(frozen=True)"),
        ("Plain", "it is no dataclass: write @dataclass(frozen=True) above a class of that name"),
        ("function", "it is no dataclass: write @dataclass(frozen=True) above a class of that name"),
    ],
)
def test_what_does_not_fit_its_seam_is_refused(folder: Path, name: str, message: str) -> None:
    (folder / "own.py").write_text(OWN)
    found = find(DYNAMICS, "dynamics", f"{folder}/own.py:{name}")
    with pytest.raises(UserError) as caught:
        require_seam(found, SEAMS["dynamics"], "it")
    assert str(caught.value) == message
