"""The pages that are written from code and results are what these say."""

from __future__ import annotations

import subprocess
import sys

import pytest

from architecture.source import ROOT


@pytest.mark.parametrize("page", ["coverage", "algorithms", "spread"])
def test_the_page_is_up_to_date(page: str) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / f"{page}.py"), "--check"]
    assert subprocess.run(command, check=False).returncode == 0, f"run: python benchmarks/{page}.py"
