"""The log of short runs of every algorithm is what it was, to 2 %: processors differ in rounding, and it grows.

`LIMNER_GOLDEN=strict` allows 1e-5, for a change of form on the machine that wrote the files. `LIMNER_GOLDEN=write`
writes them anew: only when a change of the numbers is meant, and its reason is stated.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from golden.curves import ORACLES, SCENES, oracle, scenes

FILES = Path(__file__).parent / "files"


@pytest.mark.parametrize("name", ORACLES)
def test_ten_iterations_on_the_oracle(name):
    compare(f"oracle {name}", oracle(name))


@pytest.mark.parametrize("name", SCENES)
def test_two_iterations_on_scenes(name):
    compare(f"scenes {name}", scenes(name))


def compare(name, found):
    file = FILES / f"{name.lower().replace(',', '').replace(' ', '_')}.json"
    if os.environ.get("LIMNER_GOLDEN") == "write":
        lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(values)}" for key, values in found.items())
        file.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    expected = json.loads(file.read_text(encoding="utf-8"))
    assert found.keys() == expected.keys()
    rounding = 1e-5 if os.environ.get("LIMNER_GOLDEN") == "strict" else 2e-2
    for key, values in expected.items():  # a value near 0 is as exact as the others of its curve
        near = max(1e-6, rounding / 10 * max((abs(each) for each in values if each == each), default=0.0))
        assert found[key] == pytest.approx(values, rel=rounding, abs=near, nan_ok=True), key
