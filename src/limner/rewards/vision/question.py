"""How a vision-language model of transformers is asked about one picture."""

from __future__ import annotations

from typing import Any


def asked(processor: Any, question: str) -> str:
    """Return the text in which a model is asked about one picture: by its chat template, if it has one."""
    if not processor.chat_template:
        return f"{processor.image_token}{question}"
    content = [{"type": "image"}, {"type": "text", "text": question}]
    turn = [{"role": "user", "content": content}]
    text: str = processor.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    return text
