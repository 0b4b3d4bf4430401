"""Bases that worlds ship with: a small model of each kind, trained from nothing by its ordinary loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from limner.core.errors import UserError
from limner.core.team import Team
from limner.engine.processes import leave_with_parent
from limner.models.folder import INDEX
from limner.recipes.override import override
from limner.registry.find import find
from limner.registry.names import BASES, FRESH, WORLDS


def pretrain(world: str, folder: Path | None, values: Mapping[str, Any]) -> None:
    """Train a world's base model from nothing in `folder`, or go on where that stopped; `values` override defaults.

    No folder means runs/pretrain-WORLD-MODEL.
    """
    kind = str(values.get("model", "sd3"))
    source = find(WORLDS, "world", world)()
    find(FRESH, "model", kind)  # before training.pretrain: it quiets what diffusers says on import
    if kind in ("tokens", "gan", "amused"):
        _pretrain_from_base(kind, world, folder, values)
        return
    from limner.training.fit import require_same
    from limner.training.pretrain import HOW, Pretraining

    config = override(Pretraining(), source.pretraining | values)
    if source.pair(np.random.default_rng(0))[0].ndim != find(FRESH, "model", config.model).axes:
        raise UserError(
            f"--model {config.model}: pictures are drawn by sd3 and sd, clips by wan; leave --model away for {world}"
        )
    folder = folder or Path("runs") / f"pretrain-{world}-{config.model}"
    require_same(folder, asdict(config), HOW)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rendezvous").unlink(missing_ok=True)
    if config.workers == 1:
        _pretrain(0, world, folder, config)
    else:
        torch.multiprocessing.spawn(_pretrain, (world, folder, config), nprocs=config.workers)


def _pretrain(rank: int, world: str, folder: Path, config: Any) -> None:
    """Be one of the processes that share each batch."""
    from limner.training.pretrain import pretrain

    if config.workers > 1:
        leave_with_parent()
        torch.set_num_threads(1)
        place = f"file://{(folder / 'rendezvous').resolve()}"
        torch.distributed.init_process_group("gloo", init_method=place, rank=rank, world_size=config.workers)
    source = find(WORLDS, "world", world)()
    fresh = find(FRESH, "model", config.model).build(source.vocabulary, config.latent_channels, config.seed)
    pretrain(fresh, source, config, folder, Team(rank=rank, size=config.workers))


def base_at(place: str) -> Path:
    """Return the folder of a base: `place` itself if a model lies there, or that of the name. Raises UserError."""
    return Path(place) if Path(place, INDEX).is_file() else find(BASES, "base", place)


def _pretrain_from_base(kind: str, world: str, folder: Path | None, values: Mapping[str, Any]) -> None:
    """Make a model of another kind beside the base of a world, which it takes parts from."""
    from limner.training import pretrain_gan as gan
    from limner.training import pretrain_masked as masked
    from limner.training import pretrain_tokens as tokens
    from limner.training.fit import require_same

    kinds = {"tokens": tokens.TokenPretraining, "gan": gan.Duel, "amused": masked.MaskedPretraining}
    config, how = override(kinds[kind](), values), {"tokens": tokens, "gan": gan, "amused": masked}[kind].HOW
    folder = folder or Path("runs") / f"pretrain-{world}-{config.model}"
    require_same(folder, asdict(config), how)
    source, build = find(WORLDS, "world", world)(), find(FRESH, "model", kind).build
    if isinstance(config, masked.MaskedPretraining):
        words, codes = (find(BASES, "base", name) for name in config.bases(world))
        masked.pretrain_masked(build(words, codes, config.width, config.seed), source, config, folder)
        return
    start = base_at(config.start or world)
    if isinstance(config, tokens.TokenPretraining):
        tokens.pretrain_tokens(build(source.vocabulary, start, config.num_codes, config.seed), source, config, folder)
    else:
        gan.pretrain_gan(build(source.vocabulary, start, config.width, config.seed), source, config, folder)
