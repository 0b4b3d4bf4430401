"""Keep what finished runs say of themselves, a small file each, under docs/results/spread.

    python benchmarks/gather.py runs/scenes-0 [runs/scenes-1 ...]

Rounding is as good as a seed, so a run is named by its recipe, its seed and the processor's instructions:
scenes-0-avx512.json. `benchmarks/spread.py` makes docs/spread.md of them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from limner.report.file import write_text

KEPT = Path(__file__).parents[1] / "docs" / "results" / "spread"


def main() -> None:
    """Read, keep, and say where."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    for folder in parser.parse_args().runs:
        kept = said(folder)
        path = KEPT / f"{kept['recipe']}-{kept['seed']}-{kept['instructions'].lower()}.json"
        write_text(path, json.dumps(kept, indent=1) + "\n")
        print(path)


def said(folder: Path) -> dict[str, Any]:
    """Return a run's summary, and what it ran on."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    hardware = manifest["hardware"]
    return summary | {
        "commit": manifest["commit"],
        "cpu": hardware["cpu"],
        "instructions": hardware["instructions"],
        "threads": hardware["cores"]["torch_threads"],
    }


if __name__ == "__main__":
    main()
