"""VideoReward: a Qwen2-VL that people's preferences of clips taught to judge looks, motion, and what was asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, uint8

from limner.core.errors import UserError
from limner.core.media import Media, Videos
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.rewards.video.clips import AXES, judged
from limner.rewards.videoalign.folder import CONFIG, DIMENSIONS, NAME
from limner.rewards.videoalign.network import load
from limner.rewards.videoalign.sight import chosen

FAR = "-1000 to 1000: standard deviations from the mean of its training"
MEANING = {"vq": "how it looks", "mq": "how it moves; what hardly moves is bad", "ta": "how it follows its prompt"}


@dataclass(frozen=True)
class VideoAlign:
    """Score vq + mq + ta, each (x - mean) / std of its raw number x with the mean and std of `model_config.json`.

    x is a linear head on the last state of a token that stands behind the question about this dimension, in a text
    that follows the clip. `folder` is the published one, KwaiVGI/VideoReward: model_config.json and checkpoint-STEP;
    `base` a folder or hub id of the Qwen2-VL that it was trained from (empty: as the folder says). `template` is the
    authors' file prompt_template.py, whose text is read from there and never run, or a text file (empty: the folder's
    own): the text is theirs, and with another one scores are not VideoReward's. `normalised=False`: the raw numbers.

    Frames are picked and scaled as in the authors' code: `fps` of each second (2), first and last included, of at most
    `max_frame_pixels` pixels (448 x 448). Clips whose rate does not allow that are refused, for at another rate motion
    is another motion. Of clips in levels the scaled frames are rounded to levels, as there; of numbers in [0, 1] they
    are not, and have gradients. Source: VideoReward, arXiv:2501.13918, section 3.2, and its code. Deviations: float32
    where that has bfloat16, updates merged into weights, and no video file between (theirs are compressed).
    Raises UserError for a folder that is not whole, and for such clips.
    """

    folder: str = ""
    base: str = ""
    template: str = ""
    normalised: bool = True

    @property
    def spec(self) -> RewardSpec:
        return RewardSpec(
            NAME,
            "how a clip looks, how it moves, and how it follows its prompt, as VideoReward's network judges",
            unit="standard deviation" if self.normalised else "",
            needs=("prompt",),
            axes=AXES,
            components={name: f"{FAR}: {meaning}" for name, meaning in MEANING.items()},
            differentiable=True,
            source="arXiv:2501.13918, section 3.2",
            weights_licence="MIT; Qwen2-VL-2B: Apache-2.0",
        )

    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        if not self.folder:
            raise UserError(f"{NAME}: give folder, the one that its authors publish, KwaiVGI/VideoReward")
        network = load(self.folder, self.base, self.template)
        statistics = network.trained.statistics
        if self.normalised and statistics is None:
            raise UserError(
                f"{NAME}: {CONFIG} in {self.folder} has no inference_config, means and deviations to normalise by: "
                "put the published one there, or take the raw numbers, normalised=False"
            )
        if not isinstance(media, Videos):
            raise UserError(f"{NAME} judges clips, which have frames a second; {type(media).__name__} have none")
        frames = media.frames()
        places = chosen(frames.shape[1], media.fps, network.trained.fps)
        finite = frames.detach().flatten(1).isfinite().all(1)
        seen, as_levels = frames[:, places].nan_to_num().float(), media.values.dtype == uint8
        raw = torch.stack([network.numbers(each, p.text, as_levels) for each, p in zip(seen, prompts, strict=True)])
        mean, std = raw.new_tensor(statistics if self.normalised and statistics else [(0.0, 1.0)] * 3).T
        parts: Tensor = (raw - mean) / std
        named = {name.lower(): column for name, column in zip(DIMENSIONS, parts.unbind(1), strict=True)}
        return judged(parts.sum(1), finite, named)
