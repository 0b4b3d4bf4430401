"""An algorithm and a dynamics of your own: on the command line, in Python, resumed and reopened; never unasked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import limner
from limner.cli import main
from limner.core.errors import UntrustedCode, UserError
from limner.recipes.override import override
from limner.recipes.yaml import code_of, from_yaml, to_yaml
from limner.report.metrics import read
from run.miniature import FLOW_GRPO, Miniature

OWN = '''
"""REINFORCE without a baseline's scale, and an SDE of constant noise."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from limner.algorithms.flow_grpo import FlowGRPO
from limner.diffusion.dynamics import DanceSDE, Dynamics

inner = FlowGRPO(num_updates=1)


@dataclass(frozen=True)
class MyAlgorithm:
    my_field: float = 1.0
    num_updates: int = 1

    @property
    def needs(self) -> Any:
        return inner.needs

    def advantage(self, scored: Any, context: Any) -> Any:
        return self.my_field * inner.advantage(scored, context)

    def pass_loss(self, *given: Any) -> Any:
        return inner.pass_loss(*given)


@dataclass(frozen=True)
class MyDynamics:
    strength: float = 0.3
    stochastic = True

    def step(self, *given: Any) -> Any:
        return DanceSDE(self.strength).step(*given)

    def deterministic(self) -> Dynamics:
        return DanceSDE(self.strength).deterministic()


@dataclass(frozen=True)
class Half:
    needs = 1
'''


@pytest.fixture
def place(miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder, where the user is: a recipe by Flow-GRPO, and a file with classes."""
    config = miniature.config(tmp_path, steps=2, evaluation=limner.Evaluation(seeds=1), **FLOW_GRPO)
    (tmp_path / "recipe.yaml").write_text(to_yaml(replace(config, out="")))
    (tmp_path / "my_file.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


CHOICE = {"algorithm": "my_file.py:MyAlgorithm", "sampler.dynamics": "my_file.py:MyDynamics"}
FLAGS = [word for key, value in CHOICE.items() for word in (f"--{key}", value)]


def test_on_the_command_line_resumed_and_reopened(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "recipe.yaml", *FLAGS, "--algorithm.my_field", "3", "--quiet", "--out", "run"]
    assert main(command) == 0, capsys.readouterr().err
    assert len(read(place / "run")) == 2
    tree = yaml.safe_load((place / "run" / "config.yaml").read_text())
    own = (place / "my_file.py").resolve()
    assert tree["algorithm"] == {"type": f"{own}:MyAlgorithm", "my_field": 3.0, "num_updates": 1}
    assert tree["sampler"]["dynamics"] == {"type": f"{own}:MyDynamics", "strength": 0.3}
    assert main([*command, "--resume"]) == 0
    assert main(["train", "run/config.yaml", "--resume", "--quiet"]) == 0
    assert main(["train", "recipe.yaml", "--out", "run", "--resume"]) == 2
    assert "run holds a run of another configuration" in capsys.readouterr().err
    run = limner.open_run("run", trust=True)
    assert type(run.config.algorithm).__name__ == "MyAlgorithm" and run.state.iteration == 2
    for words in (["report", "run"], ["sample", "run", "a star"], ["export", "run"]):
        assert main(words) == 2
        assert main([*words, "--trust-code"]) == 0


def test_it_does_what_it_says(place: Path) -> None:
    """An advantage of three times is Flow-GRPO's with a clip at infinity: its gradient is three times as long."""
    losses = {}
    for factor in ("1", "3"):
        config = override(limner.recipe("recipe.yaml"), {**CHOICE, "algorithm.my_field": factor, "out": factor})
        limner.train(replace(config, steps=1), quiet=True)
        losses[factor] = read(place / factor)[0]["grad_norm"]
    assert losses["3"] == pytest.approx(3 * losses["1"], rel=1e-3)


def test_in_a_recipe_file_beside_its_class(place: Path) -> None:
    recipe = "from dataclasses import replace\nimport limner\n" + OWN
    recipe = recipe.replace("from __future__ import annotations\n", "")
    recipe += "\ndef recipe():\n    return replace(limner.recipe('recipe.yaml'), algorithm=MyAlgorithm(2.0))\n"
    (place / "whole.py").write_text(recipe)
    config = limner.recipe("whole.py")
    assert code_of(config) == {f"{(place / 'whole.py').resolve()}:MyAlgorithm"}
    assert from_yaml(to_yaml(config)) == config


def test_in_a_configuration_its_present_fields_stay(place: Path) -> None:
    config = override(limner.recipe("recipe.yaml"), {**CHOICE, "algorithm.my_field": 2.0})
    assert override(config, CHOICE) == config and from_yaml(to_yaml(config)) == config
    assert override(config, {"algorithm": "FlowGRPO"}).algorithm == limner.FlowGRPO()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "my_file.py:Half",
            "--algorithm 'my_file.py:Half' lacks num_updates, advantage, pass_loss; it must have",
        ),
        ("my_file.py:inner", "--algorithm 'my_file.py:inner' is no dataclass: write @dataclass(frozen=True) above"),
        ("my_file.py:MyAlgorith", "--algorithm 'my_file.py:MyAlgorith': my_file.py has no 'MyAlgorith'; did you mean"),
        ("nowhere.py:MyAlgorithm", "--algorithm 'nowhere.py:MyAlgorithm': no such file"),
        ("json:JSONDecoder", "--algorithm 'json:JSONDecoder' is no dataclass"),
        ("MyAlgorithm", "--algorithm cannot be 'MyAlgorithm'"),
    ],
)
def test_what_does_not_fit_is_one_line(
    place: Path, name: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "recipe.yaml", "--algorithm", name]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"limner: {message}") and printed.count("\n") == 1
    with pytest.raises(UserError):
        from_yaml(f"name: x\nalgorithm: {name}\n")


HARMFUL: dict[str, dict[str, Any]] = {
    "algorithm": {"algorithm": {"type": "CODE:Thing"}},
    "algorithm, short": {"algorithm": "CODE:Thing"},
    "sampler": {"sampler": {"type": "CODE:Thing"}},
    "sampler of an evaluation": {"evaluation": {"samplers": [{"name": "x", "sampler": {"type": "CODE:Thing"}}]}},
    "model.kind": {"model": {"kind": "CODE:Thing"}},
    "model.kind, with settings": {"model": {"kind": "CODE:Thing", "settings": None}},
    "sampler.dynamics": {"sampler": {"dynamics": {"type": "CODE:Thing"}}},
}
HARMLESS: dict[str, dict[str, Any]] = {
    "reward": {"reward": "CODE:Thing"},
    "evaluation.reward": {"evaluation": {"reward": "CODE:Thing"}},
    "prompts": {"prompts": "CODE:Thing"},
    "anchor.data": {"anchor": {"data": "CODE:Thing", "weight": 1.0}},
}


@pytest.mark.parametrize("code", ["{place}/trap.py", "trap"])
@pytest.mark.parametrize("key", [*HARMFUL, *HARMLESS])
def test_nothing_of_a_strangers_folder_is_run(
    place: Path,
    miniature: Miniature,
    key: str,
    code: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever key names it: neither by opening the run, nor by resuming another one into its folder."""
    folder, mark = place / "stranger", place / "executed"
    (place / "trap.py").write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\n")
    monkeypatch.syspath_prepend(place)
    limner.train(miniature.config(folder, steps=1), quiet=True)
    tree = yaml.safe_load((folder / "config.yaml").read_text())
    changes = yaml.safe_load(yaml.safe_dump({**HARMFUL, **HARMLESS}[key]).replace("CODE", code.format(place=place)))
    for top, value in changes.items():
        tree[top] = {**tree[top], **value} if isinstance(value, dict) and "type" not in value else value
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    capsys.readouterr()
    for words in (["report", "stranger"], ["sample", "stranger", "a star"], ["export", "stranger"]):
        assert main(words) == (2 if key in HARMFUL else 0)
        if key in HARMFUL:
            printed = capsys.readouterr().err
            assert f"{code.format(place=place)}:Thing" in printed and "--trust-code" in printed
    if key in HARMFUL:
        with pytest.raises(UntrustedCode):
            limner.open_run(folder)
    assert main(["train", "recipe.yaml", "--out", "stranger", "--resume"]) == 2
    assert not mark.exists()
