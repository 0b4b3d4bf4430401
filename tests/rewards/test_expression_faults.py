"""Expressions that cannot be: one line each that says so, at once."""

from __future__ import annotations

import time
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.core.errors import UserError
from limner.rewards.algebra.named import FUNCTIONS
from limner.rewards.algebra.parse import MAX_DEPTH, MAX_TEXT, parse
from limner.rewards.algebra.tree import Expression, leaf, walk

SCENES = "+".join(["scenes"] * 1000)
FAULTS = {
    "0 ** -1 * scenes": "'0 [*][*] [(]-1[)]' is no finite number",
    "(-8) ** 0.5 * scenes": "'[(]-8[)] [*][*] 0.5' is no finite number",
    "10.0 ** 400 * scenes": "'10.0 [*][*] 400' is no finite number",
    "10 ** 400": "'10 [*][*] 400' is no finite number",
    "1e308 * 10 * scenes": "'1e[+]?308 [*] 10' is no finite number",
    "(1e308 + 1e308) * scenes": "is no finite number",
    "1e999 * scenes": "numbers must be finite, at most 1.8e[+]308",
    "1" + "0" * 400 + " * scenes": "numbers must be finite, at most 1.8e[+]308",
    "0x" + "f" * 4900 + " * scenes": "numbers must be finite, at most 1.8e[+]308",
    "clip(scenes, high=0x" + "f" * 4000 + ")": "numbers must be finite, at most 1.8e[+]308",
    "scenes[0x" + "f" * 4900 + "]": "numbers must be finite, at most 1.8e[+]308",
    "1" + "0" * 4990 + " * a": "no expression",
    "scenes / 0": "cannot read 'scenes / 0'",
    "scenes / 1e-320": "weights and constants must be finite",
    "scenes ** 1e999": "numbers must be finite",
    "scenes ** 0": "powers must be positive",
    "2 ** scenes": "cannot read '2 [*][*] scenes'",
    "1j * scenes": "cannot read '1j'",
    "scenes * 1e200 * 1e200": "must be finite numbers, got inf",
    SCENES[: MAX_TEXT + 1]: "5000 characters at most, got 5001",
    SCENES[:4997]: "nested too deep, or too long a chain",
    "(" * 2000 + "scenes" + ")" * 2000: "nested too deep|no expression",
    "-" * 4000 + "scenes": "nested too deep",
    "scenes" + ".a" * 2000: "nested too deep",
    "rank(" * 150 + "scenes" + ")" * 150: "nested too deep",
    "scenes" + " ** 2" * 200: "nested too deep",
    "a\0b": "no expression",
    "\ud800": "no expression",
    "": "no expression",
    " \n\t": "no expression",
    "scenes\n+ 1": "no expression",
    "a = 1": "no expression",
    "__file7": None,
    "__filex + __file": None,
    "__file99999999999999999999 + 'f.py:g'": None,
    "gate(scenes, scenes >= 1, soft='x')": "gate: soft is a number, got 'x'",
    "gate(scenes, scenes >= 1, soft=True)": "gate: soft is a number, got True",
    "gate(scenes, scenes >= 1, soft=1, soft=2)": "gate is given a setting twice",
    "ocr(metric='a', metric='b')": "ocr is given a setting twice",
    "ocr(**{})": "cannot read",
    "ocr(metric={[]: 1})": "cannot read",
    "ocr(*scenes)": "unknown function 'ocr'",
    "rank(*scenes)": "cannot read",
    "rank(**scenes)": "cannot read",
    "scenes if scenes else scenes": "cannot read",
    "lambda: scenes": "cannot read",
    "__import__('os').system('true')": "cannot read",
    "f'{scenes}'": "cannot read",
    "worst(" + ",".join(["a"] * 200) + ")": "takes 2 or more expressions, got 200",
    "a" * MAX_TEXT: None,
    "a." * 2000 + "py:f": None,
    "''": "cannot read",
    "'1 + 2'": "cannot read",
    "'a\\nb.py:f'": "cannot read",
    "'a + b.py:f'": None,
    "'" * MAX_TEXT: "cannot read",
    "'" * (MAX_TEXT - 1): "no expression",
    "1:" * 2000 + "x": "no expression",
}  # fmt: skip


@pytest.mark.parametrize("text", FAULTS, ids=lambda text: ascii(text)[:40])
def test_a_fault_is_one_line_at_once(text: str) -> None:
    start, said = time.monotonic(), FAULTS[text]
    if said is None:
        found = parse(text)
        assert isinstance(found, Expression) and parse(str(found)) == found
    else:
        with pytest.raises(UserError, match=said) as caught:
            parse(text)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000
    assert time.monotonic() - start < 2


def test_python_says_nothing_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    for text in ("1if", "0x1for x", "'\\d.py:f'"):
        with warnings.catch_warnings(action="error"), pytest.raises(UserError):
            parse(text)
    assert capfd.readouterr() == ("", "")


def test_what_is_long_but_not_too_long_is_read() -> None:
    sum_ = parse("+".join(f"0.5 * a{i}" for i in range(MAX_DEPTH - 3)))
    assert len(sum_.parts) == MAX_DEPTH - 3 and parse(str(sum_)) == sum_
    ranks = MAX_DEPTH - 2
    nested = parse("rank(" * ranks + "a" + ")" * ranks)
    assert len([*walk(nested)]) == ranks + 1 and parse(str(nested)) == nested
    assert parse("10 ** 3 * a") == 1000.0 * leaf("a")


PIECES = [
    "scenes",
    "a.b",
    "f.py:g",
    "'x y.py:g'",
    "__file0",
    "1",
    "0",
    "-8",
    "1e308",
    "0.5",
    "'",
    '"',
    "\\",
    "\0",
    "é",
    "\ud800",
]
PIECES += [
    " + ",
    " - ",
    " * ",
    " / ",
    " ** ",
    " >= ",
    "==",
    "=",
    ",",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ":",
    ".",
    "**",
    "*",
    "\n",
    "#",
]
PIECES += [f"{name}(" for name in FUNCTIONS] + [
    "soft=",
    "k=",
    "high=",
    "lambda",
    "if",
    "else",
    "not ",
    "await ",
    "yield ",
    ":=",
]
NUMBERS = st.sampled_from(["0", "1", "-1", "-8", "0.5", "400", "1e308", "10", "1j", "0x10", "1_0"])


def combined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Return texts that are almost expressions."""
    two = st.tuples(inner, st.sampled_from([" + ", " - ", " * ", " / ", " ** ", ", ", " >= "]), inner).map("".join)
    call = st.tuples(st.sampled_from([*FUNCTIONS, "ocr", "f.py:g"]), inner).map(lambda pair: f"{pair[0]}({pair[1]})")
    return two | two.map(lambda text: f"({text})") | call | inner.map(lambda text: f"-{text}")


LIKE = st.recursive(st.sampled_from(["scenes", "a.b", "f.py:g"]) | NUMBERS, combined, max_leaves=12)


@settings(max_examples=1500)
@given(LIKE | st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text(max_size=20))
def test_any_text_is_an_expression_or_one_line(text: str) -> None:
    try:
        found = parse(text)
    except UserError as error:
        assert len(str(error).splitlines()) == 1
        return
    assert str(parse(str(found))) == str(found)
