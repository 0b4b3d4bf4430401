"""Clips that are longer than what a model draws: each part goes on from the last frames of the one before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from limner.build import drawer
from limner.core.errors import UserError
from limner.core.media import Videos
from limner.core.tree import concatenate
from limner.core.types import Prompt
from limner.models.given import require_inputs
from limner.policies.continued import Continued
from limner.policies.denoising import Denoising
from limner.report.sheet import Samples
from limner.run import Run


def sample_parts(
    run: Run,
    prompt: str | Prompt,
    parts: int,
    overlap: int | None = None,
    count: int = 4,
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
) -> Samples:
    """Draw clips in `parts` parts: each but the first goes on from the last `overlap` frames of the one before.

    A model of F frames gives F + (parts - 1) (F - overlap). `overlap` frames must be what the autoencoder can encode,
    and less than F; None: what two thirds of the latent's times stand for, since with fewer the seams show. The first
    part is what `Run.sample` draws, and the other arguments are those. What changes with each part is measured by
    `benchmarks/drift.py`.

    Raises UserError for what draws no clips by denoising, and for a model to which each prompt brings a picture along:
    give it the last frame.
    """
    asked = Prompt(prompt) if isinstance(prompt, str) else prompt
    require_inputs(run.assembly.model, [asked])
    plain = None if steps is None and guidance is None else run.config.sampler.plain(steps, guidance)
    policy = run.assembly.policy("policy", plain)
    spec = run.assembly.model.latent().shape
    if not isinstance(policy, Denoising) or len(spec) != 4:
        raise UserError("clips in parts are for models that denoise clips, and this one does not: leave the parts out")
    if asked.inputs:
        raise UserError(
            f"clips in parts: this model goes on from the {' and '.join(asked.inputs)} that its prompt brings along; "
            "draw one part, and give its last frame to the next"
        )
    seeds, size = range(seed, seed + count), run.config.micro_batch
    groups = [seeds[i : i + size] for i in range(0, count, size)]
    with run.averaged():
        drawn = [_clips(run, policy, asked, some, parts, overlap) for some in groups]
    return Samples(concatenate(drawn), asked.text, seeds)


def _clips(
    run: Run, policy: Denoising, prompt: Prompt, seeds: Sequence[int], parts: int, overlap: int | None
) -> Videos:
    """Return a clip for each seed."""
    studio, asked = run.assembly.parts, [prompt] * len(seeds)
    clips = drawer(studio, policy)(asked, seeds).rounded()
    assert isinstance(clips, Videos)
    frames, times = clips.values.shape[1], policy.model.latent().shape[1]
    again = _overlap(frames, times) if overlap is None else overlap
    if not 1 <= again < frames:
        raise UserError(f"clips in parts: a part has {frames} frames, so 1 to {frames - 1} can overlap, got {again}")
    for part in range(1, parts):
        known = studio.studio.encode(replace(clips, values=clips.values[:, -again:]))
        if known.shape[2] >= times:
            raise UserError(f"clips in parts: {again} frames that overlap leave nothing to draw; give fewer")
        more = drawer(studio, Continued(policy, known, part))(asked, seeds).rounded()
        assert isinstance(more, Videos)
        clips = replace(clips, values=torch.cat([clips.values, more.values[:, again:]], 1))
    return clips


def _overlap(frames: int, times: int) -> int:
    """Return the frames of two thirds of a clip's latent times, whose first one may be a frame alone."""
    known = max(1, round(2 * times / 3))
    return known if frames == times else 1 + (known - 1) * (frames - 1) // (times - 1)
