"""The public names: loaded when used, the same for editors, and typed, so that a misspelt one is an error there."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path

import pytest
from mypy import api

import limner
from architecture.source import PACKAGE, ROOT
from limner.registry.names import ALGORITHMS, DYNAMICS, MODELS, SAMPLERS, SOURCES, TRAININGS


def typed() -> dict[str, str]:
    """Return the names that type checkers see, each with its home."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    return {
        str(alias.asname): f"{node.module}:{alias.name}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_type_checkers_see_what_is_loaded() -> None:
    assert typed() == limner._HOME


def test_every_name_is_there_and_no_other() -> None:
    for name in limner.__all__:
        assert getattr(limner, name).__name__ == name
    assert set(limner.__all__) == set(dir(limner)) and not {"smaple", "registry"} & set(limner.__all__)
    with pytest.raises(AttributeError, match="module 'limner' has no attribute 'smaple'"):
        limner.smaple  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("registry", [ALGORITHMS, DYNAMICS, MODELS, SAMPLERS, SOURCES, TRAININGS])
def test_what_a_configuration_names_is_public(registry: dict[str, str]) -> None:
    assert set(registry.values()) <= set(limner._HOMES)


SNIPPET = """
import limner

config = limner.RunConfig(
    name="mine",
    model=limner.Model(path="scenes", settings=limner.SD3Settings(resolution=64, max_sequence_length=0)),
    algorithm=limner.DiffusionNFT(beta=0.5),
    sampler=limner.Sampler(limner.DPMSolver(), steps=10),
)
reveal_type(limner.override(config, {"steps": 3}))  # limner.training.config.RunConfig
run = limner.train(config, resume=True)
reveal_type(run)  # limner.run.Run
reveal_type(run.sample("two red stars"))  # limner.report.sheet.Samples
reveal_type(run.config.algorithm)  # limner.core.protocols.Algorithm
reveal_type(limner.open_run("runs/mine", trust=True).state.iteration)  # int
reveal_type(run.sample("two red stars").pil()[0].size)  # tuple[int, int]
limner.train("scenes", reward=lambda media, prompts: [0.5 for _ in prompts], prompts=["a", limner.Prompt("b")])
limner.train("scenes", prompt=["a"])  # call-arg
limner.train("scenes", prompts=3)  # arg-type
limner.train("scenes", reward=3)  # arg-type
run.smaple("two red stars")  # attr-defined
limner.train(config, resme=True)  # call-arg
limner.train(3)  # arg-type
limner.opne_run("runs/mine")  # attr-defined
limner.FlowGRPO(clip_hgih=1e-4)  # call-arg
limner.SDSettings(max_sequence_length=0)  # call-arg
limner.Sampler(steps="ten")  # arg-type
limner.RunConfig(name="x", algorithm=limner.EulerODE())  # arg-type
"""
"""What a user may write: after # the code of the error, or the type that is revealed."""


@pytest.mark.slow
def test_a_users_slips_are_errors_in_the_editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And all algorithms fit the configuration, and what is documented is right."""
    fits = [f"limner.RunConfig(name='x', algorithm=limner.{name}())" for name in ALGORITHMS]
    fits += [f"limner.Sampler(limner.{name}())" for name in DYNAMICS]
    usage = re.findall(r"```python\n(import limner\n.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    assert len(usage) == 1 and limner.__doc__ is not None
    docstring = textwrap.dedent(re.findall(r"\n\n(    import limner\n.*?)\n\n[A-Z]", limner.__doc__, re.S)[0])
    (tmp_path / "slips.py").write_text(SNIPPET)
    (tmp_path / "right.py").write_text("\n".join(["import limner", *fits]))
    (tmp_path / "readme.py").write_text(usage[0])
    (tmp_path / "docstring.py").write_text(docstring)
    monkeypatch.setenv("MYPYPATH", str(PACKAGE.parent))
    monkeypatch.chdir(ROOT)
    files = [str(tmp_path / name) for name in ("slips.py", "right.py", "readme.py", "docstring.py")]
    told, _, _ = api.run(["--config-file", "pyproject.toml", "--hide-error-context", "--no-pretty", *files])
    slips = re.findall(r"slips\.py:(\d+): ((?:error|note: Revealed).*)", told)
    found = {int(line): text for line, text in slips}
    assert not re.search(r"/(right|readme|docstring)\.py:", told), told
    lines = enumerate(SNIPPET.splitlines(), start=1)
    expected = {number: text.split("  # ")[1] for number, text in lines if "  # " in text}
    assert found.keys() == expected.keys(), told
    for number, what in expected.items():
        form = f'Revealed type is "{what}"' if "reveal_type" in SNIPPET.splitlines()[number - 1] else f"[{what}]"
        assert form in found[number].replace("builtins.", ""), found[number]
