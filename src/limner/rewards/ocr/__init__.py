"""OCR: does the picture say what the prompt puts in quotation marks, and nothing else?"""

from __future__ import annotations

from limner.rewards.ocr.reward import OCR

__all__ = ["OCR"]
