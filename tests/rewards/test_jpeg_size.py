import io

import pytest
import torch
from PIL import Image

from limner.core.media import Images
from limner.core.types import Prompt
from limner.rewards.jpeg_size import jpeg_compressibility, jpeg_size

PROMPTS = [Prompt("a"), Prompt("b")]


def pictures() -> Images:
    noise = torch.rand(1, 3, 24, 40, generator=torch.Generator().manual_seed(0))
    return Images(torch.cat([noise, torch.full((1, 3, 24, 40), 0.5)]))


def kilobytes(pixels: torch.Tensor) -> float:
    buffer = io.BytesIO()
    array = (pixels * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    Image.fromarray(array).save(buffer, format="JPEG", quality=95)
    return len(buffer.getvalue()) / 1000


def test_is_the_size_of_the_file_in_kilobytes() -> None:
    media = pictures()
    expected = torch.tensor([kilobytes(pixels) for pixels in media.pixels])
    assert torch.equal(jpeg_size(media, PROMPTS), expected)
    assert torch.equal(jpeg_compressibility(media, PROMPTS), -expected)
    assert expected[0] > 2 * expected[1]


def test_several_frames_are_averaged() -> None:
    class Clip:
        def frames(self) -> torch.Tensor:
            return pictures().pixels[None]

        def __len__(self) -> int:
            return 1

    assert jpeg_size(Clip(), PROMPTS[:1]).tolist() == pytest.approx([jpeg_size(pictures(), PROMPTS).mean().item()])


def test_no_gradient_and_out_of_range_pixels_are_clamped() -> None:
    pixels = pictures().pixels.mul(3).sub(1).requires_grad_()
    size = jpeg_size(Images(pixels), PROMPTS)
    assert not size.requires_grad
    assert torch.equal(size, jpeg_size(Images(pixels.detach().clamp(0, 1)), PROMPTS))
