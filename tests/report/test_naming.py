"""Files of samples: one for each prompt of any script, and none that is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from limner.core.errors import UserError
from limner.report.naming import file_name, free


def test_prompts_of_all_scripts_have_names() -> None:
    assert file_name("Two red stars!") == "two-red-stars" and file_name('ocr(metric="exact")') == "ocr-metric-exact"
    assert file_name("二つの赤い星") == "二つの赤い星" and file_name("две красные звезды 🔴⭐") == "две-красные-звезды"
    assert file_name("a\u0301 cafe\u0301") == file_name("á café") == "á-café"
    assert file_name("\u200b") == file_name("../..") == "empty" and "/" not in file_name("a/../b")
    assert len(file_name("星" * 500).encode()) == 120


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    assert free(tmp_path / "a", range(5, 6), ".png", named=False) == (None, [tmp_path / "a-5.png"])
    (tmp_path / "a-5.png").touch()
    assert free(tmp_path / "a", range(5, 6), ".png", named=False) == (None, [tmp_path / "a_2-5.png"])
    sheet, paths = free(tmp_path / "a", range(5, 7), ".gif", named=False)
    assert (sheet, paths) == (tmp_path / "a.png", [tmp_path / "a-5.gif", tmp_path / "a-6.gif"])
    with pytest.raises(UserError, match="a-5.png is there already"):
        free(tmp_path / "a", range(4, 6), ".png", named=True)
    assert free(tmp_path / "b", range(1), ".png", named=True) == (None, [tmp_path / "b.png"])
