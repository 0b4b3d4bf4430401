"""Where in a sample its advantage counts: everywhere, where a network's patches stand out, or where a judge says so.

A focus is a frozen dataclass of settings, the value of `RunConfig.focus`: `Everywhere` (the default), `Patches` (ViPO),
`Local` (frames, or places, that are judged by themselves), those of tokens (`training/critical.py`), or one of yours,
`--focus my_file.py:MyFocus`. It moves
credit about within a sample, and makes none: the mean over the latent of what it makes of an advantage is that
advantage. So at a ratio of 1 the loss is what it is without, and with a map of ones all of it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.errors import UserError
from limner.core.media import Media
from limner.core.protocols import Judge
from limner.core.settings import Count, NotNegative, settings
from limner.core.types import Advantage, Prompt, Scored
from limner.objectives.focus import (
    Orientation,
    by_block,
    on_latent,
    principal_map,
    redistributed,
    smoothed,
    to_mean_one,
)
from limner.rewards.algebra.frames import of_frames
from limner.rewards.vision.patches import EFFICIENTNET, patches

Places = Float[Tensor, "batch *latent"]
"""A number for each place of a sample's latent; an axis of length 1 is alike along it."""


class Focus(Protocol):
    """Says where in a sample its advantage counts."""

    @property
    def judge(self) -> str:
        """An expression of judges that it asks; "": it asks none."""
        ...

    def look(
        self, media: Media, prompts: Sequence[Prompt], shape: tuple[int, ...], judge: Judge | None
    ) -> Places | None:
        """Return what is seen at each place of latents of `shape`; the same everywhere, where nothing stands out.

        None: it does not look at samples, and `spread` knows enough.
        """
        ...

    def spread(self, advantage: Advantage, scored: Scored) -> Advantage:
        """Return the advantage over steps and latent, by what was seen (`scored.places`)."""
        ...


@settings
class Everywhere:
    """An advantage counts everywhere in a sample alike."""

    judge = ""

    def look(self, media: Media, prompts: Sequence[Prompt], shape: tuple[int, ...], judge: Judge | None) -> None:
        """Return None."""

    def spread(self, advantage: Advantage, scored: Scored) -> Advantage:
        """Return the advantage itself."""
        return advantage


@settings
class Patches:
    """ViPO: an advantage counts where a network's patches lie far along the principal components of the sample's own.

        A(p) = A M(p),    M the `principal_map` of the patches, smoothed, on the latent's grid, less its least, mean 1

    A sample whose patches are all alike has no such place: it counts everywhere alike, and the log says how many did
    (`focus/even`). Where the map points is measured in docs/credit.md: with
    the published sign and number of components, at things as often as at the ground.
    Source: ViPO, published code of TeleBoost. Deviations: the map has mean 1, so that the loss is as large as without
    it (there its values lie in [0, 1]); one component, not 3; frames go to the latent's times as the autoencoder groups
    them, not by interpolation; `sign` "border" gives a component the sign by which the frame's edge lies low ("solver":
    as there).
    """

    network: str = EFFICIENTNET
    """Whose patches: efficientnet, or a folder or hub id of DINOv2."""
    components: Count = 1
    """Principal components that are added up, each by the variance that it explains."""
    smooth: NotNegative = 1.0
    """Standard deviation of the blur, in patches."""
    sign: Orientation = "border"

    judge = ""

    def look(self, media: Media, prompts: Sequence[Prompt], shape: tuple[int, ...], judge: Judge | None) -> Places:
        """Return the map, 0 everywhere where all patches are alike."""
        frames = media.frames()
        features = patches(self.network, frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        return to_mean_one(_placed(smoothed(principal_map(features, self.components, self.sign), self.smooth), shape))

    def spread(self, advantage: Advantage, scored: Scored) -> Advantage:
        """Return A M(p)."""
        seen = _seen(scored)
        weight = torch.where(_even(seen), 1.0, seen.to(advantage))
        return _over_steps(advantage, seen.ndim) * weight[:, None]


@settings
class Local:
    """An advantage counts where a judge says that the sample is better, or worse, than the others of its group.

        A(p) = A + `weight` (z(p) - mean z),    z(p) = (r(p) - mean of the group at p) / std of the group

    r(p) is what `judge` says of each frame, a block of frames for each time of the latent (segment credit), or, with
    `map`, its map of that name. The mean over p stays A. A sample that was not judged everywhere has A everywhere, and
    so has one whose parts all lie equally far from the others' (`focus/even`).
    """

    judge: str = ""
    """An expression of judges of pictures, each asked about every frame, or of one with maps."""
    map: str = ""
    """Name of a map, as `limner judge` shows it; empty: frames are judged one by one."""
    weight: NotNegative = 1.0

    def __post_init__(self) -> None:
        if not self.judge:
            raise UserError("focus.judge: name what judges frames or places, as in --focus.judge sharpness")

    def look(self, media: Media, prompts: Sequence[Prompt], shape: tuple[int, ...], judge: Judge | None) -> Places:
        """Return what the judge says of each place, NaN where it was not judged."""
        assert judge is not None
        if not self.map:
            return self._by_frame(media.frames(), prompts, shape, judge)
        shown = judge(media, prompts).maps
        if self.map not in shown:
            names = ", ".join(shown) or "none"
            raise UserError(f"focus.map: {self.judge} has no map {self.map!r} (it has: {names})")
        maps = shown[self.map][:, None].float().nan_to_num()
        return _placed(maps.expand(-1, shape[1] if len(shape) == 4 else 1, -1, -1), shape)

    def _by_frame(
        self,
        frames: Float[Tensor, "batch frames 3 height width"],
        prompts: Sequence[Prompt],
        shape: tuple[int, ...],
        judge: Judge,
    ) -> Places:
        if len(shape) != 4:
            raise UserError(f"focus Local without a map judges frames of clips, and latents of shape {shape} are none")
        score = of_frames(judge, frames, prompts).score.float()
        try:
            return by_block(score.view(frames.shape[:2]), shape[1])[:, None, :, None, None]
        except ValueError as error:
            raise UserError(f"focus: {error}") from error

    def spread(self, advantage: Advantage, scored: Scored) -> Advantage:
        """Return A + weight (z(p) - mean z), and 0 for what is not valid."""
        seen = _seen(scored)
        known = scored.valid & seen.flatten(1).isfinite().all(1)
        moved = self.weight * redistributed(seen.to(advantage), scored.rollout.group, known)
        return _over_steps(advantage, seen.ndim) + moved[:, None]


def even(scored: Scored) -> int:
    """Return the number of valid samples whose advantage counts everywhere alike, though there is a focus."""
    return 0 if scored.places is None else int((_even(scored.places).flatten() & scored.valid).sum())


def _even(places: Places) -> Tensor:
    """Tell which samples look the same everywhere; an axis of length 1 for each of the latent's."""
    flat = places.flatten(1)
    alike = (flat.amax(1) == flat.amin(1)) | ~flat.isfinite().all(1)
    return alike.view(-1, *(1,) * (places.ndim - 1))


def _seen(scored: Scored) -> Places:
    assert scored.places is not None
    return scored.places


def _placed(maps: Float[Tensor, "batch frames rows columns"], shape: tuple[int, ...]) -> Places:
    try:
        return on_latent(maps, shape)
    except ValueError as error:
        raise UserError(f"focus: {error}") from error


def _over_steps(advantage: Advantage, rank: int) -> Tensor:
    """Return an advantage with an axis of steps, and `rank` - 1 of places."""
    by_step = advantage[:, None] if advantage.ndim == 1 else advantage
    return by_step.view(*by_step.shape, *(1,) * (rank - 1))
