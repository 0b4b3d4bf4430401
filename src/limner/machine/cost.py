"""What one pass of a run's own code takes: sampling, learning, decoding and encoding, each run without any numbers.

A pass of n evaluations takes `fixed + each n` bytes at its peak beyond what stays: it is run with two sizes of n.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode

from limner.build import settings_of
from limner.core.errors import UserError
from limner.core.protocols import Actors, Adapter, OnDecisions, OnGroups, OnPairs, OnRenoised
from limner.core.tree import leaves, select, tree_map
from limner.core.types import Batch, Condition, Decisions, Pairs, Prompt, Renoised, Rollout, Trajectory
from limner.diffusion.gaussian import Gaussian
from limner.engine.blocks import blocks_of
from limner.engine.count import count_evaluations
from limner.engine.encoders import Encoding
from limner.engine.offload import Bringing, waiting
from limner.engine.precision import Precision, checkpoint_activations
from limner.engine.weights import Name, Weights
from limner.learning.passes import beside
from limner.machine.blueprint import META, SIGHT, blueprint
from limner.machine.crew import shared
from limner.machine.cut import Held, held
from limner.machine.gauge import CPU, Gauge, phantoms
from limner.machine.known import once
from limner.machine.sight import sightless
from limner.machine.stack import Row, Taken, measured, rows, told
from limner.models.arranged import arrange_autoencoder
from limner.models.given import Taking
from limner.models.quantized import quantize
from limner.policies.denoising import Denoising, Sampler
from limner.policies.plan import Noisy, Walk
from limner.training.config import RunConfig
from limner.training.spread import require_waiting

FEW = (2, 4)
"""Sizes of the passes that are run: with two of them what grows with n is told from what does not."""


@dataclass(frozen=True)
class Cost:
    """Bytes at the peak of a pass of n, `fixed + each n`; operations, and network evaluations, of each of them."""

    fixed: float
    each: float
    flops: float
    evaluations: float = 0.0

    def bytes(self, n: float) -> float:
        """Return the peak of a pass of n, 0 for n = 0."""
        return self.fixed + self.each * n if n else 0.0


@dataclass(frozen=True)
class Sizes:
    """What a model takes of memory, in bytes unless it is said otherwise, and what its passes cost."""

    source: str
    latent: tuple[int, ...]
    tokens: int
    """The longest sequence that attention runs over."""
    networks: int
    """Frozen, or trained in full, with all copies of them, but without LoRA."""
    trained: int
    """Elements that learn, in float32."""
    lora: int
    """Bytes of low-rank updates, those of an old policy too."""
    decoder: int
    encoders: int
    condition: int
    """Of one encoded prompt."""
    picture: int
    """Of what one sample shows, as a file holds it: a byte a level."""
    shape: tuple[int, ...]
    """Of what one sample shows: frames, channels, height, width."""
    sampling: Cost
    learning: Cost
    decoding: Cost
    encoding: Cost
    held: tuple[Held, ...] = ()
    """Of which tensors networks and updates are."""
    waiting: int = 0
    """Of the networks, what is in the machine's memory but for the passes that bring it (`engine/offload.py`)."""
    sight: int = 0
    """Bytes of what sees the pictures that prompts bring along."""

    @property
    def latent_bytes(self) -> int:
        """Bytes of one latent, in float32."""
        return 4 * torch.Size(self.latent).numel()


def sizes(config: RunConfig) -> Sizes:
    """Return what the model of a run takes, and its passes; of a crew, what one process does. No weight is needed."""
    _require_counted(config)
    if config.model.offload != "none":
        require_waiting(config)
    known = ("sizes", *_learned_by(config), config.model.vae_tiling)
    return once(known, lambda: _sized(config))


def _learned_by(config: RunConfig) -> tuple[object, ...]:
    """Return all that learning depends on: checkpoints are of it alone."""
    return *_measured_by(config), config.precision.activation_checkpointing


def _measured_by(config: RunConfig) -> tuple[object, ...]:
    """Return all of a configuration that passes of the network depend on, but for checkpoints."""
    sampler = replace(cast(Sampler, config.sampler), keep="device")
    model = replace(config.model, encoders="device", vae="device", decode_batch=0, vae_tiling=False)
    return model, config.algorithm, sampler, config.precision.dtype, config.context


def _sized(config: RunConfig) -> Sizes:
    away = config.model.offload != "none"
    pipeline, kind, source = blueprint(config.model.path)
    dtype = Precision(config.precision.dtype).torch_dtype
    model = settings_of(replace(config.model, kind=config.model.kind or kind)).load(pipeline, dtype, META)
    if config.model.vae_tiling:
        arrange_autoencoder(model, "device", True)
    with META:
        for network in model.networks.values():
            quantize(network, config.model.quantize, dtype)
    counted = count_evaluations(model.networks)
    needs, precision = config.algorithm.needs, Precision(config.precision.dtype)
    with META:
        weights = config.model.train.weights(model, old=needs.follows, seed=config.seed, precision=precision)
    if not needs.reference:
        weights.release_reference()
    bringing = Bringing(CPU)
    if config.precision.activation_checkpointing:
        checkpoint_activations(model.networks, weights.replay, bringing if away else lambda _: nullcontext())
    networks = [network for role in weights.roles.values() for network in role.networks.values()]
    if away:
        for network in model.networks.values():
            bringing.watch(network)
    encoders = list(model.encoders) if isinstance(model, Encoding) else []
    parts = vars(model)["pipeline"].components
    decoder, sight = ([each for each in (parts.get(name),) if each is not None] for name in ("vae", SIGHT))
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    phantoms([*networks, *encoders, *decoder, *sight], mode)
    rehearsal = _Rehearsal(config, model, weights, counted, networks, encoders, decoder, sight, mode, rows(networks))
    with shared(networks, config.context):
        return rehearsal.sizes(source)


def _require_counted(config: RunConfig) -> None:
    """Raise UserError for a run of which a plan cannot count the passes."""
    if not isinstance(config.sampler, Sampler):
        raise UserError(
            f"plan: counted are denoisers, and samples here are drawn by {type(config.sampler).__name__}: "
            "`limner check` measures a run of them"
        )
    if config.algorithm.needs.own_update:
        raise UserError(
            f"plan: {type(config.algorithm).__name__} updates weights in its own way, which no pass stands for: "
            "`limner check` measures it"
        )


@dataclass(frozen=True)
class _Rehearsal:
    """A model that has no numbers, and the passes of its run."""

    config: RunConfig
    model: Adapter
    weights: Weights
    counted: Callable[[], int]
    networks: list[nn.Module]
    encoders: list[nn.Module]
    decoder: list[nn.Module]
    sight: list[nn.Module]
    mode: FakeTensorMode
    rows: Sequence[Row]

    def sizes(self, source: str) -> Sizes:
        try:
            with self.mode:
                return self._sizes(source)
        except DynamicOutputShapeException:
            raise UserError(
                f"plan: a {self.model.pipeline_name} computes with as many tokens as numbers tell, which are not known "
                "from configurations alone: `limner check` measures a run of it"
            ) from None

    def _sizes(self, source: str) -> Sizes:
        named = {id(each): (name, each) for network in self.networks for name, each in network.named_parameters()}
        lora = [each for name, each in named.values() if ".lora_" in name]
        texts, encoding = once(self._encoded_by(), self._encoding)
        condition = tree_map(lambda leaf: torch.empty(leaf.shape, dtype=leaf.dtype), texts)
        latent, drawn_by = self.model.latent(), ("sampling", *_measured_by(self.config))
        sampling = once(drawn_by, lambda: self._cost(lambda n: self._sample(condition, n)))
        attended = sampling[1]
        learnt_by = ("learning", *_learned_by(self.config))
        learning = once(learnt_by, lambda: self._cost(lambda n: self._learn(condition, n)))
        decoding, shape = once(self._decoded_by(), self._decoding)
        return Sizes(
            source=source,
            latent=tuple(latent.shape),
            tokens=attended,
            networks=_bytes(self.networks) - sum(each.nbytes for each in lora),
            trained=sum(each.numel() for each in self.weights.parameters().values()),
            lora=sum(each.nbytes for each in lora),
            decoder=_bytes(self.decoder),
            encoders=_bytes(self.encoders),
            condition=sum(leaf.nbytes for leaf in leaves(condition)) // 2,
            picture=torch.Size(shape).numel(),
            shape=shape,
            sampling=sampling[0],
            learning=learning[0],
            decoding=decoding,
            encoding=encoding,
            held=held(self.networks),
            waiting=self._waiting() if self.config.model.offload != "none" else 0,
            sight=_bytes(self.sight),
        )

    def _waiting(self) -> int:
        blocks = [block for network in self.model.networks.values() for block in blocks_of(network)]
        return sum(each.nbytes for block in blocks for _, each in waiting(block))

    def _cost(self, run: Callable[[int], Any], few: tuple[int, ...] = ()) -> tuple[Cost, int]:
        """Return what a pass costs, and the longest sequence that it attends over; of one size all grows with n."""
        peaks, flops, evaluations, attended, few = [], 0.0, 0.0, 0, few or FEW
        for n in few:
            taken = told(self.rows, lambda: self._taken(lambda: run(n)))  # noqa: B023
            peaks.append(taken.peak)
            flops, evaluations, attended = taken.flops / n, taken.evaluations / n, taken.attended
        each = (peaks[1] - peaks[0]) / (few[1] - few[0]) if len(few) > 1 else peaks[0] / few[0]
        return Cost(max(0.0, peaks[0] - each * few[0]), each, flops, evaluations), attended

    def _taken(self, run: Callable[[], None]) -> Taken:
        parts = [*self.networks, *self.encoders, *self.decoder, *self.sight]
        before = self.counted()
        gauge = Gauge(each for part in parts for each in (*part.parameters(), *part.buffers()))
        with measured(gauge, self.networks, self.rows):
            run()
        taken = Taken(gauge.laps, gauge.flops, self.counted() - before, gauge.attended)
        for network in self.networks:
            network.zero_grad()
        return taken

    def _encoded_by(self) -> tuple[object, ...]:
        """Return all that encoding depends on."""
        model = self.config.model
        return "encoding", model.path, model.kind, model.settings, self.config.precision.dtype

    def _encoding(self) -> tuple[Condition, Cost]:
        """Return an encoded prompt and the empty one, and what encoding it takes."""
        found: list[Condition] = []

        def encode() -> None:
            with torch.no_grad(), sightless(self.model), _asked(self.model) as prompt:
                found.append(self.model.encode([prompt]))

        try:
            taken = self._taken(encode)
        except DynamicOutputShapeException:
            raise UserError(
                f"plan: what a {self.model.pipeline_name} makes of a text has a size that cannot be told from "
                "configurations alone: `limner check` measures a run of it"
            ) from None
        return found[0], Cost(0.0, taken.peak, taken.flops)

    def _policy(self, name: Name) -> Denoising:
        precision = Precision(self.config.precision.dtype)
        return cast(Denoising, self.config.sampler.policy(cast(Any, self.weights.actor(self.model, name, precision))))

    def _sample(self, condition: Condition, n: int) -> None:
        """Take one step of n samples, as they are drawn."""
        x, t, index = self._latents(n), torch.empty(n), torch.zeros(n, dtype=torch.long)
        name: Name = "old" if self.config.algorithm.needs.old is not None else "policy"
        with torch.no_grad():
            _, following = self._policy(name).step(x, (t, t), condition, index, torch.ones(n, dtype=torch.bool))
            following.sample(self._latents(n))

    def _decoded_by(self) -> tuple[object, ...]:
        """Return all that decoding depends on: autoencoders are float32, whatever networks are."""
        model = self.config.model
        return "decoding", model.path, model.kind, model.settings, model.vae_tiling

    def _decoding(self) -> tuple[Cost, tuple[int, ...]]:
        """Return what decoding takes, and the shape of what one sample shows."""
        shown: list[tuple[int, ...]] = []

        def decode(n: int) -> None:
            with torch.no_grad():
                shown.append(tuple(self.model.decode(self._latents(n)).frames().shape[1:]))

        return self._cost(decode, (1,))[0], shown[0]

    def _latents(self, n: int) -> Tensor:
        return torch.empty(n, *self.model.latent().shape)

    def _actors(self) -> Actors[Any]:
        needs, trained = self.config.algorithm.needs, self._policy("policy")
        return Actors(
            policy=trained,
            reference=self._policy("old" if needs.refresh else "reference") if needs.reference else trained,
            old=self._policy("old") if needs.old is not None else trained,
        )

    def _learn(self, condition: Condition, n: int) -> None:
        """Take the forward and backward passes of n decisions, or noised samples; of pairs, n / 2."""
        algorithm: Any = self.config.algorithm
        actors, needs = self._actors(), algorithm.needs
        size = n // 2 if needs.pairs else n
        batch = self._batch(condition, n)
        pack = self._noised if needs.renoise is not None else self._decided
        if needs.pairs:
            pairs: Pairs[Any] = Pairs(beside(pack(size), pack(size)), torch.ones(size))
            loss, _ = cast(OnPairs, algorithm).pass_loss(actors, batch, pairs)
        elif needs.renoise is not None and (needs.renoise.by_group or needs.renoise.by_all):
            measuring = cast(OnGroups, algorithm)
            with torch.no_grad():
                measuring.measure(actors, batch, self._noised(n))
            loss, _ = measuring.pass_loss(actors, batch, self._noised(n), torch.zeros(n))
        else:
            loss, _ = cast(OnDecisions | OnRenoised, algorithm).pass_loss(actors, batch, cast(Any, pack(n)))
        loss.sum().backward()

    def _batch(self, condition: Condition, n: int) -> Batch:
        """Return n samples of one group, with a decision each where decisions are recorded."""
        rows = torch.arange(n)
        path = None
        if self.config.algorithm.needs.path:
            decided = self._decided(n)
            column = lambda tree: select(tree, rows)  # noqa: E731
            points = torch.stack([decided.state.x, decided.choice], 1)
            states = Walk(points, decided.state.t[:, None], decided.state.s[:, None])
            old = Gaussian(decided.old.mean[:, None], decided.old.std[:, None])
            path = Trajectory(
                states, decided.length[:, None], old,
                torch.ones(n, 1, dtype=torch.bool), column(rows)[:, None],
            )  # fmt: skip
        zeros = torch.zeros(n, dtype=torch.long)
        rollout = Rollout([Prompt("")], zeros, zeros, condition, self._latents(n), path, rows, 0)
        return Batch(rollout, torch.ones(n))

    def _decided(self, n: int) -> Decisions:
        numbers, rows = torch.ones(n), torch.arange(n)
        old = Gaussian(self._latents(n), numbers)
        state = Noisy(self._latents(n), numbers, numbers)
        zeros = torch.zeros(n, dtype=torch.long)
        return Decisions(state, zeros, rows, self._latents(n), numbers, old, rows, zeros)

    def _noised(self, n: int) -> Renoised:
        zeros = torch.zeros(n, dtype=torch.long)
        latents = [self._latents(n) for _ in range(3)]
        return Renoised(latents[0], latents[1], latents[2], torch.ones(n), zeros, torch.arange(n), zeros)


@contextmanager
def _asked(model: Adapter) -> Iterator[Prompt]:
    """Give a prompt, which brings along an empty picture of each that the model takes."""
    with TemporaryDirectory() as folder:
        picture = Path(folder) / "empty.png"
        Image.new("RGB", (64, 64)).save(picture)
        yield Prompt("red star", inputs=dict.fromkeys(model.takes if isinstance(model, Taking) else (), str(picture)))


def _bytes(modules: Iterable[nn.Module]) -> int:
    """Return the bytes of all parameters and buffers, shared ones once."""
    every: Mapping[int, Tensor] = {
        id(each): each for module in modules for each in (*module.parameters(), *module.buffers())
    }
    return sum(each.nbytes for each in every.values())
