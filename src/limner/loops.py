"""Which loop carries out a run, and what the workers of a cluster hold that draw for it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from functools import partial

from limner.build import Assembly, assemble
from limner.cluster.pool import Pool
from limner.recipes.yaml import from_yaml, to_yaml
from limner.training.asynchronous import NAME, Drawer, train_asynchronously
from limner.training.loop import Hooks, train
from limner.training.state import State


def carry_out(assembly: Assembly, state: State, hooks: Hooks) -> None:
    """Run the iterations that are left: in this process, or with workers that draw."""
    config, place = assembly.config, assembly.config.rollouts.by
    if not place.workers:
        train(config, assembly.parts, state, hooks)
        return
    with closing(Pool(partial(drawer, to_yaml(config)), place, NAME)) as pool:
        train_asynchronously(config, assembly.parts, state, hooks, pool)


def drawer(written: str) -> Drawer:
    """Return, in a worker, what draws for a run: its configuration travels as text, and names all else.

    A worker takes the accelerator that Ray has given it, if any, and keeps no copy of the base beside the weights.
    """
    config = replace(from_yaml(written), device="auto")
    parts = assemble(config, training=False).parts
    parts.weights.release_reference()
    return Drawer(config, parts.studio, parts.weights, parts.evaluations)
