"""A `config.yaml` that is not one: a line each, at once. What can be read is plain data, and reads back the same."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import examples
from limner.core.errors import UserError
from limner.core.plain import MAX_BYTES, MAX_DEPTH, MAX_VALUES, plain
from limner.recipes.yaml import read_config

LAUGHS = "a0: &a0 [l, l, l, l, l, l, l, l, l]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)
)
MERGES = "a0: &a0 {k: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 12))
FAULTS: dict[str | bytes, str] = {
    "": "is not a run's configuration: it holds no keys",
    "null": "it holds no keys",
    "2020-01-01": "line 1: '2020-01-01' is a date; put it in quotes",
    "name: 2020-01-01": "line 1: '2020-01-01' is a date; put it in quotes",
    "name: x\nsteps: 2020-13-45": "line 2: '2020-13-45' is a date",
    "name: x\nsteps: 2020-02-30": "line 2: '2020-02-30' is a date",
    "steps: 2020-02-20 25:61:61": "is a date",
    "steps: !!timestamp x": "'x' is a date",
    "steps: !!int x": "line 1: 'x' is no int that can be read",
    "steps: !<tag:yaml.org,2002:int> x": "'x' is no int",
    "steps: !!float x": "'x' is no float",
    "overlap: !!bool x": "'x' is no bool",
    "name: !!null x": "the tag '!!null' is not known here",
    "name: !!binary aGk=": "the tag '!!binary' is not known here",
    "name: !!set {a, b}": "the tag '!!set' is not known here",
    "name: !!omap [a: 1]": "the tag '!!omap' is not known here",
    "name: !!str {a: 1}": "the tag '!!str' is not known here",
    "name: !!map x": "the tag '!!map' is not known here",
    "name: !mine x": "the tag '!mine' is not known here",
    "name: !!python/object/apply:os.system ['true']": "the tag '!!python/object/apply:os.system' is not known here",
    f"steps: {'1' * 5000}": "is no int that can be read",
    f"steps: 0x{'f' * 6000}": "is no int that can be read",
    f"seed: 0b{'1' * 20_000}": "is no int that can be read",
    f"seed: {':'.join(['59'] * 3000)}": "is no int that can be read",
    "steps: 1:20": "'1:20' is no int that can be read",
    "steps: 1:20.5": "'1:20.5' is no float that can be read",
    "steps: 010": "'010' is no int that can be read",
    "steps: 0x_": "is no int that can be read",
    "steps: 0b_": "is no int that can be read",
    "name: x\nsteps: ٣": "steps needs an integer, got '٣'",
    "name: x\nsteps: '２'": "steps needs an integer, got '２'",
    "name: x\nsteps: 18446744073709551616": "RunConfig: steps must be below 2^63",
    "name: x\nsteps: yes": "steps needs an integer, got True",
    "name: x\nsteps: .inf": "steps needs an integer, got inf",
    "name: x\noptimizer: {lr: .nan}": "optimizer.lr needs a number, got nan",
    "name: x\noptimizer: {lr: ١}": "optimizer.lr needs a number, got '١'",
    f"name: x\noptimizer: {{lr: 1{'0' * 35}}}": "Optimizer: lr must be above 0 and below 1",
    "name: x\noptimizer: {betas: [2, 3]}": "Optimizer: betas must be at least 0 and below 1",
    "name: x\noptimizer: {betas: {a: 0.9}}": "optimizer.betas.a: optimizer.betas holds a single value",
    "name: x\noptimizer: {betas: [0.9]}": "optimizer.betas needs 2 values",
    "name: x\noverlap: 1": "overlap needs true or false, got 1",
    "name: x\nratio_floor: [warn]": "ratio_floor cannot be",
    "name: x\nmodel: {settings: [1], max_sequence_length: 3}": "model.settings",
    "name: x\nsampler: {steps: 100000}": "Sampler: steps must be at least 1 and at most 10000, got 100000",
    "name: x\nsampler: {dynamics: {type: DDIM, eta: 2}}": "sampler.dynamics: DDIM cannot be made: eta must be",
    "name: x\nsampler: {dynamics: {type: FlowSDE, noise_level: -1}}": "FlowSDE cannot be made: noise_level must be",
    "name: x\nsampler: {dynamics: {type: DanceSDE, eta: .inf}}": "DanceSDE cannot be made: eta must be at least 0",
    "name: ''": "name must be 1 to 100 characters that can be printed",
    'name: "a\\0b"': "name must be 1 to 100 characters that can be printed",
    f"name: {'a' * 101}": "name must be 1 to 100 characters that can be printed",
    "name: x\nname: y": "line 2: the key 'name' stands there twice",
    "name: x\noptimizer: {lr: 0.1, lr: 0.1}": "line 2: the key 'lr' stands there twice",
    "name: x\n1: 3": "unknown key 1",
    "name: x\n~: 3": "unknown key ~",
    "name: x\n2020-01-01: 3": "unknown key 2020-01-01",
    "name: x\n? [1]\n: 3": "line 2: a key must be a text",
    "name: x\n? {a: 1}\n: 3": "line 2: a key must be a text",
    "name: *none": "found undefined alias",
    "&x\nname: *x": "nested too deep, or an alias within itself",
    "name: a\nsampler: &x\n  dynamics: *x": "nested too deep, or an alias within itself",
    "name: a\nmodel: {train: {targets: &x [*x]}}": "nested too deep, or an alias within itself",
    "&x\nname: a\n<<: *x": "nested too deep, or an alias within itself",
    "name: a\n<<: 3": "line 2: << takes mappings",
    f"{LAUGHS}name: *a8": f"more than {MAX_VALUES} values, with aliases written out",
    f"{MERGES}name: *a11": f"more than {MAX_VALUES} values, with aliases written out",
    f"name: {'[' * 2000}": "nested too deep",
    "- " * 2000: "nested too deep",
    "? " * 2000: "nested too deep",
    "\n".join(" " * i + "a:" for i in range(200)): "nested too deep",
    f"sampler: {'{dynamics: ' * 60}1{'}' * 60}": "nested too deep",
    "name: x\n" + "".join(f"k{i}: 1\n" for i in range(MAX_BYTES // 8)): f"at most {MAX_BYTES} are read",
    f"name: {'x' * MAX_BYTES}": f"at most {MAX_BYTES} are read",
    'name: "\\U00110000"': "is not YAML",
    'name: "\\UFFFFFFFF"': "is not YAML",
    'name: "\\ud800"': "name must be",
    'name: "\\q"': "is not YAML, line 1: found unknown escape character",
    "name: [": "is not YAML, line 1",
    "name: x\n\tsteps: 3": "is not YAML, line 2",
    "name: a\n---\nname: b": "is not YAML, line 2: but found another document",
    "%YAML 3.0\n---\nname: x": "is not YAML, line 1",
    b"name: mini\xe9": "not UTF-8 text (byte 10); save it as UTF-8",
    "name: x".encode("utf-16"): "not UTF-8 text (byte 0)",
    "name: x".encode("utf-16-be"): "a binary file, not UTF-8 text",
    b"name: x\0": "a binary file, not UTF-8 text",
    b"name: x\x01": "is not YAML",
    b"\x89PNG\r\n\x1a\n": "not UTF-8 text",
    b"version https://git-lfs.github.com/spec/v1\n": "a Git LFS pointer",
}  # fmt: skip


@pytest.mark.parametrize("content", FAULTS, ids=lambda content: ascii(content)[:50])
def test_a_fault_is_one_line_at_once(content: str | bytes, tmp_path: Path) -> None:
    file = tmp_path / "here"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    start = time.process_time()
    with pytest.raises(UserError) as caught:
        read_config(file)
    assert time.process_time() - start < 2
    said = str(caught.value)
    assert FAULTS[content] in said and said.startswith(str(file)), said
    assert len(said.splitlines()) == 1 and len(said) < 700


SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=8)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
)


@examples(60)
@given(TREES)
def test_what_yaml_writes_is_read_back(tree: Any) -> None:
    assert plain(yaml.safe_dump(tree), "here") == tree


def test_what_people_write_is_read() -> None:
    text = "a: &a [1, 2]\nb: *a\nc: {<<: {d: 1, e: 2}, e: 3}\nf: yes\ng: 1_000\nh: 0x10\ni: -.inf\nj: 1e-3\n'null': ~"
    assert plain(text, "here") == {
        "a": [1, 2], "b": [1, 2], "c": {"d": 1, "e": 3}, "f": True, "g": 1000, "h": 16, "i": -float("inf"), "j": "1e-3",
        "null": None,
    }  # fmt: skip
    assert plain('{"prompt": [1.5, null, "é \\u00e9"]}', "here") == {"prompt": [1.5, None, "é é"]}
    assert plain("\n".join(f"{' ' * i}a:" for i in range(MAX_DEPTH)), "here")


PIECES = [
    "name: x\n",
    "steps",
    ": ",
    ":",
    "\n",
    "  ",
    "\t",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "&a ",
    "*a",
    "<<: ",
    "? ",
    "!",
]
PIECES += [
    "!!int ",
    "!!float ",
    "!!bool ",
    "!!binary ",
    "!!set ",
    "!<",
    ">",
    "|",
    "'",
    '"',
    "\\",
    "\\U",
    "%YAML",
    "---\n",
]
PIECES += [
    "1",
    "0x",
    "0b",
    ".",
    "_",
    "-",
    "+",
    "e",
    ".nan",
    ".inf",
    "2020-01-01",
    "1:2",
    "yes",
    "~",
    "#",
    "@",
    "`",
    "é",
]
PIECES += ["\x01", "\x85", "\u2028", "\ufeff", "\ud800", "٣", "\x7f", "\U0001f600"]


@examples(200)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join) | st.text(max_size=30))
def test_any_text_is_plain_data_or_one_line(text: str) -> None:
    try:
        tree = plain(text, "here")
    except UserError as error:
        assert re.match("here( is not YAML|, line [0-9]+: | is nested)", str(error))
        return
    require_plain(tree)


def require_plain(tree: Any) -> None:
    if isinstance(tree, dict):
        assert all(isinstance(key, str) for key in tree)
        for value in tree.values():
            require_plain(value)
    elif isinstance(tree, list):
        for value in tree:
            require_plain(value)
    else:
        assert tree is None or type(tree) in (str, int, float, bool)
