"""Rewards of one's own: how light a picture is, and how red.

    limner train scenes --reward examples/my_reward.py:redness --steps 10

A reward is a function of media and prompts, one number a sample, higher is better. It sees 8-bit pictures as numbers in
[0, 1]. What it cannot judge it calls invalid: a sample that leaves its group, and never a zero.
"""

import torch

from limner import RewardOutput


def light(media, prompts):
    return media.frames().mean((1, 2, 3, 4))


def redness(media, prompts):
    pixels = media.frames()[:, 0]  # [batch, 3, height, width], sRGB
    red, green, blue = pixels.unbind(1)
    score = (red - torch.maximum(green, blue)).mean((1, 2))
    black = pixels.flatten(1).amax(1) == 0
    return RewardOutput(score, valid=~black, components={"brightness": pixels.flatten(1).mean(1)})
