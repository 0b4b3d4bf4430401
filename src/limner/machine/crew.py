"""A crew without its other processes: what one of those that share tokens takes, told from shapes alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import distributed, nn

from limner.core.team import Team
from limner.engine.device import in_crews
from limner.models.context import share


@contextmanager
def shared(networks: Sequence[nn.Module], size: int) -> Iterator[None]:
    """Have the networks pass, inside, as the first of `size` processes that share tokens; of 1, as they are.

    Exchanges are those of torch's fake group, whose answers have the right shapes, and which sends nothing. Raises
    UserError for what cannot be shared.
    """
    if size == 1:
        yield
        return
    from torch.testing._internal.distributed.fake_pg import FakeStore  # here, because it makes "fake" known to torch

    distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=size)
    try:
        crew = in_crews(Team(torch.device("cpu"), 0, size), size).crew
        assert crew is not None
        share(networks, crew)
        yield
    finally:
        distributed.destroy_process_group()
