"""The composition root: puts a run together from a configuration."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from limner.core.errors import UserError, nearest
from limner.core.media import Media
from limner.core.paths import path_of, to_folder
from limner.core.protocols import Actors, Adapter, ModelSettings, Policy, Sampling
from limner.core.rng import Rng
from limner.core.shortage import needing
from limner.core.team import Team
from limner.core.tree import tree_map
from limner.core.types import Pipeline, Prompt, Source
from limner.data.pairs import captioned, read_media, read_pairs
from limner.data.preferences import read_preferences
from limner.data.prompts import read_prompts
from limner.data.sampler import PromptSampler
from limner.engine.blocks import compile_blocks
from limner.engine.count import count_evaluations
from limner.engine.device import resolve
from limner.engine.ema import Ema
from limner.engine.encoders import Encoding, visiting
from limner.engine.memory import total_memory_mib
from limner.engine.optim import LossScale, Stepper
from limner.engine.precision import Precision, checkpoint_activations
from limner.engine.start import start_from
from limner.engine.weights import Name, Weights
from limner.evaluate.protocol import Draw
from limner.judges import compose
from limner.learning.passes import require
from limner.models.given import require_inputs
from limner.objects import NOTHING as NO_OBJECTS
from limner.objects import Objects, Prompts, is_object, origin, prompt_of
from limner.policies.fitting import require_fit
from limner.registry.find import find
from limner.registry.names import MODELS, PROMPTS, WORLDS
from limner.registry.served import kind_of, source_of
from limner.rewards.algebra.compose import Composition, Judge
from limner.rewards.algebra.tree import Leaf
from limner.rollout.audience import Overlap
from limner.rollout.collect import EncodeCache
from limner.rollout.kept import Kept
from limner.rollout.score import in_parts
from limner.training.anchor import Anchor, OnData, OnTeacher
from limner.training.asynchronous import require_able
from limner.training.config import DataAnchor, Model, RunConfig
from limner.training.distill import CHAINS, taught
from limner.training.focus import Focus
from limner.training.footprint import require_room
from limner.training.judged import Library, encoded, teaching
from limner.training.loop import Parts
from limner.training.source import Pictures, Preferences, Studio
from limner.training.spread import is_hollow, loaded_on, put_away, share_tokens, spread, team_of


def load_model(
    model: Model,
    precision: Precision,
    device: torch.device,
    given: Pipeline | str | Path | None = None,
    hollow: bool = False,
) -> Adapter:
    """Return the adapter of the model's kind around its folder, or around a copy of the `given` pipeline.

    A folder's networks have no numbers if it is to be `hollow`.
    """
    settings = settings_of(model)
    if model.kind in MODELS and not isinstance(settings, kind := find(MODELS, "model kind", model.kind)):
        raise UserError(f"model.settings are {settings}, but model.kind {model.kind} has {kind.__name__}")
    source: Source = source_of(model.path, model.revision, model.variant, model.quantize, hollow)
    if is_object(model.path):
        if model.loras or model.revision or model.variant or model.quantize != "none":
            raise UserError("model.loras, revision, variant, quantize are of a base that is loaded: do it to your own")
        source = given if given is not None else source
    loaded = settings.load(source, precision.torch_dtype, device)
    if model.loras or model.vae != "device" or model.vae_tiling:
        from limner.models.fused import prepare  # here, because it imports diffusers

        prepare(loaded, model.loras, model.vae, model.vae_tiling)
    return loaded


def settings_of(model: Model) -> ModelSettings:
    """Return what is chosen about a model: where nothing is, what its kind has of itself."""
    if model.settings is not None:
        return model.settings
    return find(MODELS, "model kind", model.kind or kind_of(model.path, model.revision))()


def load_prompts(source: str, given: Prompts | str | None = None) -> list[Prompt]:
    """Return the prompts of a world's split (`scenes:train`), of a file, or those `given` that `source` stands for."""
    if given is not None and is_object(source):
        return list(map(prompt_of, given))
    world, separator, split = source.partition(":")
    if separator and world in PROMPTS:
        if split not in ("train", "heldout"):
            raise UserError(f"prompts {source!r}: unknown split{nearest(split, ['train', 'heldout'])}")
        return find(PROMPTS, "prompts", world)(split)
    if not source:
        raise UserError("no prompts: give --prompts FILE (.txt or .jsonl) or a world's split such as scenes:train")
    return read_prompts(source).prompts


NOTHING = Composition(Leaf("nothing"), {})
"""Stands where a reward would in a run that was only opened, and asks nobody."""


@dataclass(frozen=True)
class Assembly:
    """A run put together: what the loop needs, and what surrounds it."""

    config: RunConfig
    parts: Parts
    model: Adapter
    heldout: Sequence[Prompt]
    """What it is evaluated on; may be empty."""
    judge: Judge
    """Says how good a held-out sample is."""
    base: str
    """Where its library finds the model that is trained: a folder, a hub id, or a base's name; "": nowhere."""

    def policy(self, role: Name, sampler: Sampling | None = None) -> Policy:
        """Return a policy over the weights of `role`, sampled as in training unless another sampler is given."""
        sampler, precision = sampler or self.config.sampler, Precision(self.config.precision.dtype)
        require_fit(sampler, self.model)
        return sampler.policy(self.parts.weights.actor(self.model, role, precision))


@needing("loading")
def assemble(config: RunConfig, training: bool = True, objects: Objects = NO_OBJECTS) -> Assembly:
    """Load and connect everything that a run needs; nothing is written, and nothing expensive is run.

    Where the configuration has the name of an object, it is the one of `objects`.
    Without `training` prompts and judges stay out: who looks at a finished run may no longer have the user's files.
    """
    team = team_of(config) if training else Team(resolve(config.device))
    objects.require(config, training)
    named = training and (config.source.draws or bool(config.prompts))
    prompts = load_prompts(config.prompts, objects.prompts) if named else [Prompt("")]
    cached = to_folder(config.reward_cache, "reward_cache") if config.reward_cache else None
    judges = training and (config.source.draws or bool(config.reward))
    reward = compose(config.reward, cached, objects.reward) if judges else NOTHING
    judged_by, asked = config.evaluation.reward, config.evaluation.prompts
    heldout = load_prompts(asked, objects.heldout) if asked and training else []
    judge = compose(judged_by, None, objects.heldout_reward) if judged_by and training else reward.plain
    if config.group_size < 2 and reward.grouped:
        raise UserError(
            f"group_size is {config.group_size}, but the reward {config.reward} compares the samples of a group with "
            "one another: give it 2 or more, or name the judges alone"
        )
    if heldout:
        judge.require_absolute("name what to evaluate by with --evaluation.reward")
    precision = Precision(config.precision.dtype)
    place, hollow = loaded_on(config, team), is_hollow(config, team)
    model = load_model(config.model, precision, place, objects.model, hollow)
    if training:
        require_able(config, team)
        require_room(config, model.latent(), total_memory_mib(team.device))
        require_inputs(model, [*prompts, *heldout])
    counted = count_evaluations(model.networks)
    weights, team = spread(config, model, _weights(config, model, precision, hollow), precision, team)
    weights = put_away(config, model, weights, team)
    share_tokens(weights, team)
    actors = _actors(config, model, weights, precision, team)
    parts = Parts(
        team=team,
        algorithm=config.algorithm,
        actors=actors,
        weights=weights,
        stepper=_stepper(config, weights, team),
        ema=Ema(weights.parameters(), config.optimizer.ema) if config.optimizer.ema else None,
        source=config.source,
        studio=_studio(config, model, actors.old, prompts, reward, team),
        anchor=_anchor(config.anchor) if config.anchor.weight and training else None,
        evaluations=counted,
    )
    base = config.model.path if not is_object(config.model.path) else origin(objects.model)
    return Assembly(config, parts, model, heldout, judge, base)


def _weights(config: RunConfig, model: Adapter, precision: Precision, hollow: bool) -> Weights:
    """Return what learns, from where it starts; of `hollow` networks without numbers, as they are."""
    training, old = config.model.train, config.algorithm.needs.follows
    start = start_from(config.model.start, model.networks) if config.model.start else None
    if start is not None and training.whole:
        start.merge(model.networks)
    with torch.device("meta") if hollow else nullcontext():
        weights = training.weights(model, old=old, seed=config.seed, precision=precision)
    if start is not None and not training.whole:
        start.into(weights, model.networks)
    if config.precision.activation_checkpointing:
        checkpoint_activations(model.networks, weights.replay)
    if config.precision.compile:
        for role in weights.roles.values():
            compile_blocks(role.networks)
    return weights


def _studio(
    config: RunConfig, model: Adapter, policy: Policy, prompts: Sequence[Prompt], reward: Composition, team: Team
) -> Studio:
    @cache
    def pictures(data: str, num_pairs: int) -> tuple[torch.Tensor, Sequence[Prompt]]:
        media, texts = _pairs(data, num_pairs, model, config.seed)
        return _latents(model, media), texts

    @cache
    def judged(source: Preferences) -> Library:
        return _judged(source, config, model)

    encoders = model.encoders if isinstance(model, Encoding) and config.model.encoders == "device" else ()
    return Studio(
        policy=policy,
        record=config.algorithm.needs.path,
        prompts=prompts,
        sampler=PromptSampler(len(prompts), config.prompts_per_step, config.seed),
        group_size=config.group_size,
        micro_batch=config.micro_batch,
        overlap=_overlap(config, model, reward),
        cache=EncodeCache(model.encode, encoding=partial(visiting, encoders, team.device), kept=_kept(config, model)),
        encode=partial(_latents, model),
        decode=in_parts(model.decode, config.model.decode_batch),
        pictures=pictures,
        judged=judged,
        look=_look(config.focus, model),
        reward=reward,
        team=team,
    )


def _overlap(config: RunConfig, model: Adapter, reward: Composition) -> Overlap:
    """Return what is done while samples are drawn; an accelerator that draws decodes nothing at the same time."""
    drawn_here = model.latent().device.type == "cpu"
    decoded_here = drawn_here or config.model.vae == "cpu"
    if config.overlap is not None:
        return Overlap(config.overlap, config.overlap and decoded_here)
    elsewhere = any(judge.spec.elsewhere or leaf.place is not None for leaf, judge in reward.judges.items())
    return Overlap(elsewhere, decoded_here and not drawn_here)


def _kept(config: RunConfig, model: Adapter) -> Kept | None:
    if not config.prompt_cache:
        return None
    from limner.models.identity import encoding_identity  # here, because it imports transformers

    folder = to_folder(config.prompt_cache, "prompt_cache")
    return Kept(folder, encoding_identity(model, config.precision.dtype), model.latent().device)


def _look(focus: Focus, model: Adapter) -> Callable[[Media, Sequence[Prompt]], Tensor | None]:
    """Return how the focus looks at samples, with the judges that it asks."""
    judge = compose(focus.judge) if focus.judge else None
    return partial(focus.look, shape=model.latent().shape, judge=judge)


def _pairs(data: str, num_pairs: int, model: Adapter, seed: int) -> tuple[Media, list[Prompt]]:
    """Return the pictures of a folder, as large as the model draws them, or of a world, with their prompts."""
    if data not in WORLDS:
        source = read_pairs(data)
        return read_media(source, _size(model))
    world = find(WORLDS, "world", data)()
    rngs = [np.random.default_rng(Rng((seed, "anchor", i)).seed()) for i in range(num_pairs)]
    return captioned([world.pair(rng, 0.0) for rng in rngs], world.fps)


def _latents(model: Adapter, media: Media) -> Tensor:
    """Return the latents of media where those of samples are, wherever the autoencoder is."""
    return model.encode_media(media).to(model.latent().device)


def _size(model: Adapter) -> tuple[int, ...]:
    """Return height and width of what a model draws, and before them of clips the number of frames."""
    spec = model.latent()
    with torch.no_grad():
        _, frames, _, height, width = model.decode(torch.zeros(1, *spec.shape, device=spec.device)).frames().shape
    return (height, width) if frames == 1 else (frames, height, width)


def _judged(source: Preferences, config: RunConfig, model: Adapter) -> Library:
    """Return the preferences of a source with their pictures encoded, `micro_batch` at a time; each is encoded once.

    Raises UserError if the algorithm can learn nothing from any of them.
    """
    found, faults = read_preferences(source.data, source.worse, source.masks, source.broken)
    taught = teaching(found, config.algorithm, source.data, source.segments, source.unpair)
    size, spec = _size(model), model.latent()
    library, more = encoded(taught, partial(_latents, model), size, spec, config.micro_batch, source.broken)
    for fault in faults + more:
        print(f"left out: {fault}", file=sys.stderr)
    return library


def _anchor(data: DataAnchor) -> Anchor:
    """Return the anchor; a folder is looked into now, and pictures are encoded when the first loss needs them."""
    if Path(data.data).name == CHAINS:
        pairs, prompts = taught(path_of(data.data, "anchor.data"))
        return OnTeacher(pairs, load_prompts(prompts), data.weight, data.batch)
    if data.data not in WORLDS:
        read_pairs(data.data)
    return OnData(Pictures(data.data, data.num_pairs), data.weight, data.batch)


def _actors(config: RunConfig, model: Adapter, weights: Weights, precision: Precision, team: Team) -> Actors[Policy]:
    needs = config.algorithm.needs
    require_fit(config.sampler, model)

    def policy(name: Name) -> Policy:
        return config.sampler.policy(weights.actor(model, name, precision))

    trained = policy("policy")
    require(config.algorithm, trained, anchored=config.anchor.weight > 0, processes=team.processes)
    return Actors(
        policy=trained,
        reference=policy("old" if needs.refresh else "reference") if needs.reference else trained,
        old=policy("old") if needs.old is not None else trained,
    )


def _stepper(config: RunConfig, weights: Weights, team: Team) -> Stepper:
    o = config.optimizer
    return Stepper(
        weights.parameters(),
        lr=o.lr,
        steps=config.steps * config.algorithm.num_updates,
        betas=o.betas,
        weight_decay=o.weight_decay,
        warmup=o.warmup,
        schedule=o.schedule,
        max_grad_norm=o.max_grad_norm,
        team=team,
        scale=LossScale() if config.precision.dtype == "float16" else None,
        kind=o.kind,
    )


def drawer(parts: Parts, policy: Policy) -> Draw:
    """Return a function that draws sample i for prompt i at seed i; its noise depends on text and seed alone."""

    def draw(prompts: Sequence[Prompt], seeds: Sequence[int]) -> Media:
        with torch.no_grad():
            drawn = latents_drawer(parts, policy)(prompts, seeds)
            with needing("decode"):
                return tree_map(Tensor.cpu, parts.studio.decode(drawn))

    return draw


def latents_drawer(parts: Parts, policy: Policy) -> Callable[[Sequence[Prompt], Sequence[int]], Tensor]:
    """Return a function that draws latents as `drawer` does, and leaves them where the network is."""

    def draw(prompts: Sequence[Prompt], seeds: Sequence[int]) -> Tensor:
        unique = list(dict.fromkeys(p.asked for p in prompts))
        index = torch.tensor([unique.index(p.asked) for p in prompts])
        ids = torch.tensor([Rng((p.text, s)).seed() for p, s in zip(prompts, seeds, strict=True)])
        condition = parts.studio.cache.condition(unique)
        with torch.no_grad():
            return policy.sample(condition, index, ids, ids, rng=Rng(("evaluate",)), record=False).sample

    return draw
