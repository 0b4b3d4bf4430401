"""Pages of the docs that are written from code and results: written, or compared with what would be."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main(name: str, about: str, page: Callable[[], str]) -> int:
    """Write docs/NAME; with `--check` write nothing, and return 1 if it is not what would be written."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    path, text = ROOT / "docs" / name, page()
    if parser.parse_args().check:
        return int(not path.exists() or path.read_text(encoding="utf-8") != text)
    path.write_text(text, encoding="utf-8")
    return 0
