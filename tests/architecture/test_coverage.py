"""The coverage table in the docs is what the tests and results say."""

from __future__ import annotations

import subprocess
import sys

from architecture.source import ROOT


def test_the_table_is_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "coverage.py"), "--check"]
    assert subprocess.run(command, check=False).returncode == 0, "run: python benchmarks/coverage.py"
