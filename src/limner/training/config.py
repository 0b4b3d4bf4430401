"""What a run is: every choice in one immutable object, written to `config.yaml` and read back from it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from limner.algorithms.flow_grpo import FlowGRPO
from limner.cluster.place import Place
from limner.core.edition import Bits
from limner.core.errors import UserError, shown
from limner.core.needs import LossMean
from limner.core.protocols import Adapter, Algorithm, ModelSettings, Sampling
from limner.core.settings import Cap, Count, Named, Natural, NotNegative, Range, Share, settings
from limner.core.team import Over
from limner.engine.full import full
from limner.engine.lora import lora
from limner.engine.precision import Precision as EnginePrecision
from limner.engine.weights import Training, Weights
from limner.learning.importance import require_weighable
from limner.learning.reliability import Reliability
from limner.policies.denoising import MAX_STEPS, Guidance, Sampler
from limner.policies.masked import MaskedSampler
from limner.policies.tokens import TokenSampler
from limner.training.focus import Everywhere, Focus
from limner.training.snapshots import Snapshots
from limner.training.source import Drawn, Pictures, Source


@settings
class Lora:
    """Train low-rank updates of the linear layers whose names end in `targets` (empty: the model's default ones)."""

    rank: Annotated[int, Range(least=1, most=65_536)] = 32
    """Columns of an update."""
    alpha: Count = 64
    """An update is scaled by alpha / rank."""
    targets: tuple[str, ...] = ()
    pattern: str = ""
    """A regular expression of whole names of layers, as in .*attn.*; empty: it is `targets` that say which."""
    dora: bool = False
    """Whether each row's length is trained apart from its direction (DoRA): slower, and in more memory."""
    rslora: bool = False
    """Whether an update is scaled by alpha / sqrt(rank) instead (rsLoRA)."""

    whole: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.pattern and self.targets:
            raise UserError("model.train has targets and a pattern, and one of them says which layers learn: drop one")

    def weights(self, model: Adapter, *, old: bool, seed: int, precision: EnginePrecision) -> Weights:
        """Return the updates as weights."""
        return lora(
            model.networks,
            rank=self.rank,
            alpha=self.alpha,
            targets=self.targets or model.lora_targets,
            seed=seed,
            old=old,
            precision=precision,
            pattern=self.pattern,
            dora=self.dora,
            rslora=self.rslora,
        )

    def export(self, model: Adapter, folder: Path) -> None:
        """Write the updates as the library loads a LoRA."""
        model.export_lora(folder)

    def described(self) -> str:
        """Return rank and alpha, and which kind it is where it is not the plain one."""
        kind = "DoRA" if self.dora else "LoRA"
        return f"{kind}, rank {self.rank}, alpha {self.alpha}" + (", rank-stabilised" if self.rslora else "")


@dataclass(frozen=True)
class Full:
    """Train all weights; reference and old policy are copies."""

    whole: ClassVar[bool] = True

    def weights(self, model: Adapter, *, old: bool, seed: int, precision: EnginePrecision) -> Weights:
        """Return all weights, in float32 whatever the precision is."""
        return full(model.networks, reference=True, old=old)

    def export(self, model: Adapter, folder: Path) -> None:
        """Write the networks."""
        model.export_full(folder)

    def described(self) -> str:
        """Return that there is nothing else to say."""
        return "full weights"


@settings
class Model:
    """Which generator, and what is chosen about it."""

    kind: str = ""
    """The kind of model, as `limner list` names it, or `my_file.py:MySettings`; empty: the one that serves `path`."""
    path: str = "scenes"
    """A folder in its library's own layout, a hub id, or the name of a built-in base."""
    settings: Annotated[ModelSettings | None, Named("models", kind="kind", folder="path")] = None
    """What can be chosen about that kind, an SD3Settings, say; None: nothing is."""
    train: Annotated[Training, Named("trainings")] = field(default_factory=Lora)
    """Which weights learn."""
    revision: str = ""
    """Branch, tag or commit of a hub id's repository; empty: the newest."""
    variant: str = ""
    """Which files of weights are read, as fp16 of model.fp16.safetensors; empty: those without one."""
    quantize: Bits = "none"
    """In how many bits a frozen base is kept under its LoRA: 8 or 4 where bfloat16 has 16; rounded, and slower."""
    offload: Literal["none", "blocks"] = "none"
    """Whether blocks of a frozen base wait in the machine's memory, and cross over whenever they run; far slower."""
    encoders: Literal["device", "cpu"] = "device"
    """Where prompts are encoded: on the CPU an accelerator never holds text encoders, and a new prompt takes longer."""
    vae: Literal["device", "cpu"] = "device"
    """Where pictures are decoded: on the CPU an accelerator is left to the rest, and decoding takes far longer."""
    vae_tiling: bool = False
    """Whether pictures are decoded in tiles, blended where they meet: large ones in less memory, not quite the same."""
    decode_batch: Natural = 0
    """Samples decoded at once, at most, in less memory; 0: of 2^22 pixels together, and on a CPU of 2^17."""
    loras: tuple[str, ...] = ()
    """LoRAs that the base has, frozen: files that diffusers loads, or folders with one, as in style.safetensors@0.8"""
    start: str = ""
    """A LoRA, or networks, that an earlier run or another tool exported: training goes on from there; empty: no."""

    def __post_init__(self) -> None:
        if self.quantize != "none" and self.train.whole:
            raise UserError(
                f"model.quantize {self.quantize} is of a frozen base, and model.train {type(self.train).__name__} "
                "changes it: take Lora"
            )
        if self.quantize != "none" and self.loras:
            raise UserError(
                f"model.quantize {self.quantize} keeps weights as codes, to which model.loras cannot be added: fuse "
                "them into a base of your own first, or leave one out"
            )


@settings
class Optimizer:
    """AdamW with linear warm-up, then a constant, a cosine or a line."""

    kind: Literal["adamw", "adamw8bit"] = "adamw"
    """adamw8bit keeps a quarter of the memory (bitsandbytes): pays where many weights learn."""
    lr: Annotated[float, Range(above=0, below=1)] = 3e-4
    """Learning rate, after warm-up."""
    betas: Annotated[tuple[float, float], Range(least=0, below=1)] = (0.9, 0.999)
    """Decay of the running mean of gradients, and of their squares."""
    weight_decay: NotNegative = 0.0
    """What a step takes off each weight, as a share times the learning rate."""
    warmup: Natural = 0
    """Optimizer steps in which the learning rate rises from 0."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """Whether the learning rate then stays, or falls to 0 along a cosine or a line."""
    max_grad_norm: Cap = 1.0
    """What the norm of all gradients is cut to; inf: nothing is cut."""
    ema: Share = 0.0
    """Decay of the average of the weights that is evaluated and exported; 0: none."""


@settings
class Rollouts:
    """Who draws: this process between its updates, or workers of a Ray cluster while it learns."""

    by: Place = field(default_factory=lambda: Place(workers=0))
    """How many workers there are, each with a copy of the model, and what each has; 0: this process draws."""
    staleness: Annotated[int, Range(least=0, most=100)] = 0
    """Iterations by which the weights that draw are behind those that learn; 0: workers wait for each update."""
    weight_max: Annotated[float, Range(least=1)] = 2.0
    """What the importance weight of a sample of earlier weights is cut to; inf: nothing is cut."""


@settings
class DataAnchor:
    """Add the ordinary loss on data, times `weight`, to every optimizer step; weight 0: none.

    `data` is a folder with pictures and metadata.jsonl, a world (`num_pairs` clean pairs), or a student's chains.pt.
    """

    data: str = ""
    weight: NotNegative = 0.0
    batch: Annotated[int, Range(least=1, most=100_000)] = 64
    """Pictures, or pairs of the teacher, in each optimizer step."""
    num_pairs: Annotated[int, Range(least=1, most=10**7)] = 2000

    def __post_init__(self) -> None:
        if self.weight and not self.data:
            raise UserError(f"anchor.weight {self.weight} needs anchor.data: a folder or world")


@settings
class Precision:
    """Networks run in `dtype`; log-probabilities, losses and kept latents are float32 whatever it is."""

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """float16, for cards without bfloat16, scales losses, so that small gradients are not lost."""
    activation_checkpointing: bool = False
    """Whether activations are computed again instead of kept: slower, in less memory."""
    compile: bool = False
    """Whether blocks are compiled (torch.compile): faster, after half a minute to a few minutes in which they are."""


OWN, ODE, GUIDED = "sampler", "ode", "guided"
"""Names of the samplers that `Evaluation` knows itself: the run's own, the plain ODE, and the guided base's."""


@settings
class NamedSampler:
    """A sampler that held-out samples are drawn by: of the base, of the result, or of both."""

    name: str
    """What the report and the folders in samples/ call it: small letters, digits and underscores."""
    sampler: Annotated[Sampling, Named("samplers")] = field(default_factory=Sampler)
    when: Literal["before", "after", "both"] = "both"

    def __post_init__(self) -> None:
        if not re.fullmatch("[a-z0-9_]+", self.name):
            raise UserError(f"a sampler's name has small letters, digits and underscores, got {self.name!r}")


@settings
class Evaluation:
    """How the result is measured: prompts x seeds, never trained on, by `reward` (empty: the training reward)."""

    prompts: str = ""
    """Held-out prompts: a file, or a split of a world, as in scenes:heldout; empty: nothing is measured."""
    reward: str = ""
    seeds: Annotated[int, Range(least=1, most=10_000)] = 4
    """Samples of each held-out prompt, before and after."""
    every: Natural = 0
    """Evaluate on a part of the prompts every so many iterations, for the curve; 0: only before and after."""
    part: Count = 32
    """Prompts of that part, spread over the categories; one seed each."""
    ode_steps: Annotated[int, Range(least=0, most=MAX_STEPS)] = 0
    """Also measure with the plain ODE in this many steps; 0: do not."""
    guidance: Guidance = 1.0
    """Also measure the base with this guidance (and the plain ODE); 1: do not."""
    samplers: tuple[NamedSampler, ...] = ()
    """Also measure with these."""

    def __post_init__(self) -> None:
        names = [OWN, ODE, GUIDED, *(each.name for each in self.samplers)]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"evaluation.samplers needs a name for each that is none of {names[:3]}, got {name!r}")

    def measured(self, own: Sampling) -> tuple[NamedSampler, ...]:
        """Return what a result is measured by: first the run's `own` sampler, then the plain ODE, then the others."""
        ode = [NamedSampler(ODE, own.plain(self.ode_steps, guidance=1.0))] if self.ode_steps else []
        if ode and self.guidance != 1:
            ode.append(NamedSampler(GUIDED, own.plain(self.ode_steps, self.guidance), "before"))
        return (NamedSampler(OWN, own), *ode, *self.samplers)


MAX_NAME = 100
"""Characters of a run's name."""


@settings
class RunConfig:
    """A run: a generator, prompts, something that says which results are better, and how to learn from it."""

    name: str
    """What the run is called, in its report and its folder."""
    model: Model = field(default_factory=Model)
    prompts: str = ""
    """What is trained on: a file (.txt, .jsonl), or a split of a world, as in scenes:train."""
    reward: str = ""
    """An expression of judges, as in "0.5 * scenes + 0.5 * my_file.py:my_reward"; see `limner.rewards.algebra`."""
    reward_cache: str = ""
    """Folder that keeps what deterministic judges said, by content; empty: they are asked anew."""
    prompt_cache: str = ""
    """Folder that keeps encoded prompts, of any run, by all that encodes them; empty: each session encodes anew."""
    overlap: bool | None = None
    """Whether samples are decoded and judged while the next are drawn; none: what of it is done elsewhere."""
    source: Annotated[Source, Named("sources")] = field(default_factory=Drawn)
    """Where judged samples come from: the policy draws them, or they are given."""
    algorithm: Annotated[Algorithm, Named("algorithms")] = field(default_factory=FlowGRPO)
    """How weights follow from judged samples."""
    rollouts: Rollouts = field(default_factory=Rollouts)
    """Who draws the samples."""
    reliability: Reliability = field(default_factory=Reliability)
    """How much each group is believed (BPGO)."""
    focus: Annotated[Focus, Named("focuses")] = field(default_factory=Everywhere)
    """Where in a sample its advantage counts (ViPO, segment credit; of tokens GCPO, STAGE)."""
    loss_mean: LossMean = "decisions"
    """What the loss is a mean over: the batch's decisions (tokens), its samples' means, or a constant (Dr.GRPO)."""
    sampler: Annotated[Sampling, Named("samplers")] = field(default_factory=Sampler)
    """How samples are drawn in training."""
    optimizer: Optimizer = field(default_factory=Optimizer)
    anchor: DataAnchor = field(default_factory=DataAnchor)
    precision: Precision = field(default_factory=Precision)
    evaluation: Evaluation = field(default_factory=Evaluation)
    snapshots: Snapshots = field(default_factory=Snapshots)
    steps: Count = 100
    """Iterations: roll out, score, update."""
    prompts_per_step: Annotated[int, Range(least=1, most=100_000)] = 8
    """Prompts of an iteration, each the head of a group."""
    group_size: Annotated[int, Range(least=1, most=10_000)] = 16
    """Samples of each prompt, which are compared with one another."""
    micro_batch: Count = 128
    """Network evaluations in one pass."""
    checkpoint_every: Count = 25
    """Iterations between checkpoints, from which --resume goes on."""
    max_hours: NotNegative = 0.0
    """Hours after which a session stops, early enough to keep a checkpoint, from which --resume goes on; 0: never."""
    ratio_floor: Literal["refuse", "warn"] = "refuse"
    """What to do with a clip range that is below the noise of the arithmetic."""
    seed: Natural = 0
    """Seed of everything that is random."""
    shard: Over = "none"
    """Over which processes weights are spread (FSDP): none, each has all; all; machine, those of each machine."""
    context: Annotated[int, Range(least=1, most=64)] = 1
    """How many processes share the tokens of a sample (context parallelism), for long clips; 1: each has its own."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:1, ..."""
    out: str = ""
    """The run folder; empty: runs/NAME-SEED."""

    def __post_init__(self) -> None:
        unfit = not self.name.isprintable() or len(self.name) > MAX_NAME or {*self.name} & {*"/\\"}
        if not self.name.strip(" .") or unfit:
            raise UserError(
                f"name must be 1 to {MAX_NAME} characters that can be printed, and no slash: reports and folders are "
                f"called by it; got {shown(self.name)}"
            )
        needs, name = self.algorithm.needs, type(self.algorithm).__name__
        if self.group_size < 2 and needs.group:
            raise UserError(
                f"group_size is {self.group_size}, but {name} compares the samples of a group with one another: "
                "give it 2 or more (8 to 24 is usual); to save memory lower micro_batch instead"
            )
        self.sampler.require(self.algorithm, self.group_size)
        if needs.group and isinstance(self.source, Pictures):
            raise UserError(
                f"{name} compares the samples of a group, but each of source Pictures is alone, and only good: take "
                "RewardWeighted with weight reward, or source Preferences, which says what is better than what"
            )
        if needs.path and not self.source.draws:
            raise UserError(
                f"{name} scores the decisions by which samples were drawn, and those of source "
                f"{type(self.source).__name__} are given: take an algorithm that noises finished samples again, as "
                "DPO does with pairs, and RewardWeighted and DiffusionNFT do"
            )
        if not isinstance(self.focus, Everywhere) and (needs.pairs or not needs.path or needs.outcome):
            raise UserError(
                f"focus says where advantages count, and {name} {'knows' if needs.outcome else 'learns from others'}: "
                "take one of FlowGRPO, GRPOGuard, FlowDPPO, DDPO, PPO and TRPO, or focus Everywhere"
            )
        if self.loss_mean != "decisions" and (needs.pairs or not needs.path or needs.own_update):
            raise UserError(
                f"loss_mean says what a loss over recorded decisions is a mean over, and {name} has another: take "
                "FlowGRPO, GRPOGuard, FlowDPPO, DDPO or PPO, or loss_mean decisions"
            )
        sizes = isinstance(self.sampler, Sampler) and self.sampler.sizes
        if sizes and (needs.alone or not isinstance(self.focus, Everywhere)):
            knows = name if needs.alone else f"focus {type(self.focus).__name__}"
            raise UserError(f"sampler.sizes make latents of several shapes, and {knows} knows one: leave them out")
        if needs.pairs and not self.reliability.off:
            raise UserError(f"reliability weighs the advantages of groups, and {name} learns from pairs: leave it out")
        if self.precision.dtype == "float16" and needs.own_update:
            raise UserError(
                f"precision.dtype float16 scales losses, but {name} takes steps of its own: take bfloat16 or float32"
            )
        self._require_rollouts()
        if self.shard != "none" and self.model.quantize != "none":
            raise UserError(
                f"shard {self.shard} cuts weights in parts, and model.quantize {self.model.quantize} keeps codes that "
                "are not cut: leave one out"
            )
        if self.shard != "none" and self.optimizer.kind != "adamw":
            raise UserError(
                f"shard {self.shard} cuts the optimizer's moments in parts, which optimizer.kind {self.optimizer.kind} "
                "does not know: take adamw"
            )
        if self.anchor.weight and needs.own_update:
            raise UserError(f"anchor.weight adds a loss to the optimizer's steps, and {name} takes its own: set 0")

    def _require_rollouts(self) -> None:
        """Raise UserError for workers that have nothing to draw, or draw what cannot be weighted."""
        workers, staleness = self.rollouts.by.workers, self.rollouts.staleness
        if workers and not isinstance(self.source, Drawn):
            raise UserError(f"rollouts.by.workers draw, and source {type(self.source).__name__} does not: set it to 0")
        if workers and self.overlap:
            raise UserError("overlap has this process draw while it judges, and rollouts.by.workers draw: drop one")
        if staleness and not workers:
            raise UserError("rollouts.staleness is that of workers: set rollouts.by.workers, or staleness to 0")
        if staleness:
            require_weighable(self.algorithm)
        if staleness and isinstance(self.sampler, Sampler) and self.sampler.splits:
            raise UserError("rollouts.staleness: a decision that samples share has no weight: drop sampler.splits")
        if staleness and isinstance(self.sampler, TokenSampler) and self.sampler.scored == "unguided":
            raise UserError('rollouts.staleness: sampler.scored "unguided" scores what did not draw: take "drawn"')
        if staleness and isinstance(self.sampler, MaskedSampler) and self.sampler.order == "confidence":
            raise UserError("rollouts.staleness: order confidence has no probability: take random or plackett_luce")
