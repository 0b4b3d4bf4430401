"""Encoded prompts on disk: what was encoded once, in this run or another, is not encoded again."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from limner.core.errors import UserError
from limner.core.tree import tree_map
from limner.core.types import Condition, Prompt

DIGEST = 32


@dataclass(frozen=True)
class Kept:
    """Encoded prompts, a file each, in `folder`, by what is asked and the `identity` of all that encodes it.

    What is asked is a text, and what is in the files that come with it. A file is the BLAKE2b of what follows, and
    that: the row of the prompt and that of the empty one. It is whole or not there; one that is damaged is as if it
    were not there. What is read is on `device`, the same to the bit.
    """

    folder: Path
    identity: str
    device: torch.device

    def read(self, prompt: Prompt) -> Condition | None:
        """Return what `write` was given for the prompt, if it was."""
        try:
            held = self._file(prompt).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UserError(f"prompt_cache {self.folder}: {error}; name another folder") from error
        if hashlib.blake2b(held[DIGEST:], digest_size=DIGEST).digest() != held[:DIGEST]:
            return None
        try:
            found = torch.load(io.BytesIO(held[DIGEST:]), map_location="cpu", weights_only=True)
        except (RuntimeError, pickle.UnpicklingError):  # of another version of torch
            return None
        return tree_map(lambda leaf: leaf.to(self.device), found)

    def write(self, prompt: Prompt, rows: Condition) -> None:
        """Keep the rows. Raises UserError if the disk is full or refuses."""
        stream, file = io.BytesIO(), self._file(prompt)
        torch.save(tree_map(Tensor.cpu, rows), stream)
        content = stream.getvalue()
        part = file.with_suffix(f".{os.getpid()}.part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            part.write_bytes(hashlib.blake2b(content, digest_size=DIGEST).digest() + content)
            os.replace(part, file)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise UserError(f"prompt_cache {self.folder}: {error}; name another folder") from error

    def _file(self, prompt: Prompt) -> Path:
        given = sorted(
            (name, hashlib.sha256(Path(place).read_bytes()).digest()) for name, place in prompt.inputs.items()
        )
        asked = repr((self.identity, prompt.text, given)).encode()
        return self.folder / f"{hashlib.blake2b(asked, digest_size=DIGEST).hexdigest()}.prompt"
