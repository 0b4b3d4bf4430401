"""What a run measures, iteration by iteration: `metrics.jsonl`, TensorBoard, and W&B for those who ask for it."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import os
import secrets
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import yaml
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from limner.core.errors import UserError
from limner.report.file import write_text

FILE = "metrics.jsonl"
Line = dict[str, Any]


class Metrics:
    """Write one line an iteration to FOLDER/metrics.jsonl, and the same numbers to FOLDER/tensorboard.

    W&B gets them too if `WANDB_PROJECT` is set and `wandb` is installed. Both are told the configuration, `config`, as
    YAML, and are shown what `show` is given. A run that goes on calls `truncate` first.
    Numbers that are not finite are written as null, because JSON has no other word for them.
    """

    def __init__(self, folder: Path, config: str = "") -> None:
        self.folder, self.config = folder, config
        self.last = -1
        self._purge: int | None = None
        self._file: TextIO | None = None
        self._events: SummaryWriter | None = None
        self._wandb: Any = None

    def truncate(self, step: int) -> None:
        """Drop the iterations >= `step`, which a run that resumes there will do again; 0 starts afresh.

        A last line that a killed process left half-written is dropped too. The file is replaced in one step.
        """
        self.close()
        kept = [line for line in read(self.folder) if line["step"] < step]
        write_text(self.folder / FILE, "".join(_dump(line) for line in kept))
        self.last = kept[-1]["step"] if kept else -1
        self._purge = step

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write one iteration; it must come after the one written before."""
        if step <= self.last:
            raise ValueError(f"iteration {step} of {self.folder / FILE} is already written (the last is {self.last})")
        events = self._opened()
        assert self._file is not None
        self._file.write(_dump({"step": step, **{name: float(value) for name, value in values.items()}}))
        self._file.flush()
        os.fsync(self._file.fileno())  # a checkpoint that survives has the lines before it
        for name, value in values.items():
            events.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(dict(values), step=step)
        self.last = step

    def show(self, step: int, name: str, sheet: Image.Image) -> None:
        """Put a sheet of pictures beside the numbers of an iteration, where there is a place for pictures."""
        self._opened().add_image(name, np.array(sheet.convert("RGB")), step, dataformats="HWC")
        if self._wandb is not None:
            self._wandb.log({name: importlib.import_module("wandb").Image(sheet)}, step=step)

    def close(self) -> None:
        """Finish all files; `log` opens them again."""
        if self._file is not None:
            self._file.close()
        if self._events is not None:
            self._events.close()
        if self._wandb is not None:
            self._wandb.finish()
        self._file = self._events = self._wandb = None

    def _opened(self) -> SummaryWriter:
        if self._events is None:
            self._events = self._open()
        return self._events

    def _open(self) -> SummaryWriter:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = (self.folder / FILE).open("a", encoding="utf-8", newline="\n")
        self._wandb = _start_wandb(self.folder, self.config)
        events = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self._purge)
        if self.config:
            events.add_text("config", f"```yaml\n{self.config}```", self._purge or 0)
        return events


def read(folder: Path) -> list[Line]:
    """Return the lines of FOLDER/metrics.jsonl; a half-written last one is left out.

    Raises UserError for any other line that is no iteration after the one before.
    """
    path = folder / FILE
    if not path.exists():
        return []
    try:
        *whole, last = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    lines: list[Line] = []
    for number, text in enumerate(whole, start=1):
        line = _parsed(text)
        if line is None or (lines and line["step"] <= lines[-1]["step"]):
            raise UserError(f"{path}, line {number} is no iteration after the one before: repair or delete the line")
        lines.append(line)
    cut_short = _parsed(last)  # whole but for its end of line, if it is not None
    return lines if cut_short is None else [*lines, cut_short]


def _parsed(text: str) -> Line | None:
    """Return the numbers of an iteration, or None if the text does not hold such."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or type(line.get("step")) is not int:
        return None
    numbers = all(value is None or type(value) in (int, float) for value in line.values())
    return line if numbers else None


def _dump(line: Line) -> str:
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}
    return json.dumps(finite, allow_nan=False) + "\n"


def _start_wandb(folder: Path, config: str) -> Any:
    """Return a W&B run that a resumed process continues, or None if nobody asked for one."""
    project = os.environ.get("WANDB_PROJECT")
    if not project:
        return None
    if importlib.util.find_spec("wandb") is None:
        warnings.warn("WANDB_PROJECT is set but wandb is not installed: pip install wandb", stacklevel=3)
        return None
    name = folder / "wandb_id.txt"
    if not name.exists():
        write_text(name, secrets.token_hex(4))
    wandb = importlib.import_module("wandb")
    told = yaml.safe_load(config) if config else {}
    return wandb.init(
        project=project, name=folder.name, id=name.read_text(), resume="allow", dir=str(folder), config=told
    )
