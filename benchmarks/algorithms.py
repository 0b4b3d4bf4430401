"""Write docs/algorithms.md: the formula of every algorithm, when to use it, its settings, and what it was seen to do.

    python benchmarks/algorithms.py [--check]

All of it stands elsewhere: formulas and advice in the docstrings of `limner.algorithms`, results in docs/results.
`--check` writes nothing and fails if the file is not what would be written.
"""

from __future__ import annotations

import dataclasses
import inspect
import statistics
import sys
from collections import defaultdict
from types import ModuleType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from limner.bench.oracle_report import read
from limner.bench.oracles import ENTRIES, efficiency
from limner.bench.scenes import read_rows
from limner.core.settings import Range
from limner.recipes.presets import PRESETS
from limner.registry.find import find
from limner.registry.names import ALGORITHMS
from page import ROOT, main

RESULTS = ROOT / "docs" / "results"
ADVICE = "When to use it: "
"""How the paragraph of a docstring begins that says so."""


def page() -> str:
    """Return the whole page."""
    lines = [
        "# Algorithms",
        "",
        "Every algorithm trains every model that fits it: `--algorithm NAME`, its settings as `--algorithm.KEY VALUE`,",
        "published settings as `--preset NAME`. **Oracles**: the reward gained over the most that could be gained at",
        "the same distance from the base, mean over five seeds ([oracles.md](oracles.md)). **Scenes**: the gain in",
        "held-out accuracy of one base after 65,000 network evaluations, in points, mean and range over seeds where",
        "there are several ([scenes.md](scenes.md)). Written by `python benchmarks/algorithms.py`; a test compares.",
    ]
    for name in ALGORITHMS:
        lines += ["", f"## {name}", "", *section(name)]
    return "\n".join(lines) + "\n"


def section(name: str) -> list[str]:
    """Return what is said of one algorithm."""
    kind = find(ALGORITHMS, "algorithm", name)
    module = inspect.getmodule(kind)
    assert module is not None
    formula, advice = documented(module)
    lines = [formula, "", f"**When to use it.** {advice}", "", inspect.getdoc(kind) or "", "", *settings(kind)]
    presets = [
        f"* `--preset {preset}`: {each.about}" for preset, each in PRESETS.items() if each.keys.get("algorithm") == name
    ]
    evidence = [*oracles(name), *scenes(name)]
    lines += ["", *presets] if presets else []
    return [*lines, "", *evidence]


def documented(module: ModuleType) -> tuple[str, str]:
    """Return a module's docstring without its advice, and the advice."""
    paragraphs = (inspect.getdoc(module) or "").split("\n\n")
    advice = [paragraph for paragraph in paragraphs if paragraph.startswith(ADVICE)]
    if len(advice) != 1:
        raise ValueError(f"{module.__name__} says {len(advice)} times when to use it, in a paragraph {ADVICE!r}")
    text = advice[0].removeprefix(ADVICE)
    return "\n\n".join(p for p in paragraphs if p != advice[0]), text[0].upper() + text[1:]


def settings(kind: type[Any]) -> list[str]:
    """Return the settings with their defaults and ranges, as a table."""
    hints = get_type_hints(kind, include_extras=True)
    rows = [f"| `{f.name}` | `{f.default!r}` | {allowed(hints[f.name])} |" for f in dataclasses.fields(kind)]
    return ["| setting | default | allowed |", "|---|---|---|", *rows]


def allowed(hint: Any) -> str:
    """Return the range of a number, or the choices there are."""
    if get_origin(hint) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(hint))
    return ", ".join(str(each) for each in get_args(hint) if isinstance(each, Range))


def oracles(name: str) -> list[str]:
    """Return a line for each bench entry of the algorithm on the oracle worlds."""
    curves = read(RESULTS / "oracles.json")
    lines = []
    for entry, made in ENTRIES.items():
        if type(made.algorithm).__name__ != name:
            continue
        found: dict[str, list[float]] = defaultdict(list)
        for (other, world, _), points in curves.items():
            if other == entry:
                found[world].append(efficiency(points[-1]))
        shares = ", ".join(f"{world} {statistics.mean(values):.2f}" for world, values in sorted(found.items()))
        lines += [f"* Oracles, {entry}: {shares}"] if shares else []
    return lines


def scenes(name: str) -> list[str]:
    """Return a line for each bench entry of the algorithm on scenes, the largest budget, best first."""
    rows = [row for row in read_rows(RESULTS / "scenes.csv") if row["algorithm"] == name]
    budget = max((int(row["budget"]) for row in rows), default=0)
    entries: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if int(row["budget"]) == budget:
            entries[row["entry"]].append(100 * float(row["change"]))
    lines = []
    for entry, changes in sorted(entries.items(), key=lambda item: -statistics.mean(item[1])):
        spread = f" ({min(changes):+.1f} to {max(changes):+.1f})" if changes[1:] else ", one seed"
        lines.append(f"* Scenes, {entry}: {statistics.mean(changes):+.1f}{spread}")
    return lines


if __name__ == "__main__":
    sys.exit(main("algorithms.md", __doc__ or "", page))
