"""The words world: prompts that quote a word, pictures of words; a genuine OCR engine (reward `ocr`) is the judge."""

from __future__ import annotations
