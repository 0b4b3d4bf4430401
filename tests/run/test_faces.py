"""examples/faces.py: a published GAN by its tensors alone, a detector without gradients, and a run of both."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from faces import NOISE, dcgan, face, read
from safetensors.torch import load_file
from skimage import data

from architecture.source import ROOT
from limner.cli import main
from limner.core.errors import UserError
from limner.core.media import Images
from limner.core.types import Prompt
from limner.report.metrics import read as lines_of

PUBLISHED = {  # of the package's weights.tar, but for running statistics
    "main.0.weight": (100, 512, 4, 4),
    "main.3.weight": (512, 256, 4, 4),
    "main.6.weight": (256, 128, 4, 4),
    "main.9.weight": (128, 64, 4, 4),
    "main.12.weight": (64, 3, 4, 4),
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return random weights in the package's form."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = dcgan()
    path = tmp_path_factory.mktemp("faces") / "weights.tar"
    torch.save({"netG_state_dict": {f"main.{name}": each for name, each in generator.state_dict().items()}}, path)
    return path


def test_the_generator_takes_the_published_tensors(weights: Path) -> None:
    """By their names and shapes; its last layer is that of the paper, written out."""
    found = {f"main.{name}": tuple(each.shape) for name, each in read(weights).items()}
    assert {name: shape for name, shape in found.items() if len(shape) == 4} == PUBLISHED
    generator = dcgan().eval()
    generator.load_state_dict(read(weights))
    z = torch.randn(2, NOISE, 1, 1, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        inner, shown = generator[:12](z), generator(z)
    assert inner.shape == (2, 64, 32, 32) and shown.shape == (2, 3, 64, 64)
    kernel = generator[12].weight.double()
    # Pixel (5, 8) of a transposed convolution of stride 2 and padding 1: those inputs i with 5 = 2 i - 1 + k.
    expected = sum(
        torch.einsum("bi,io->bo", inner[:, :, i, j].double(), kernel[:, :, 6 - 2 * i, 9 - 2 * j])
        for i in (2, 3)
        for j in (3, 4)
    )
    assert torch.allclose(shown[:, :, 5, 8].double(), torch.tanh(expected), atol=1e-6)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"netG_state_dict": {"main.0.weight": Path("code")}}, tmp_path / "weights.tar")
    with pytest.raises(UserError, match="is no checkpoint of tensors with netG_state_dict"):
        read(tmp_path / "weights.tar")


def test_a_face_is_found_the_right_way_up() -> None:
    """The portrait in scikit-image's wheel, of 64 x 64 pixels, upright and on its head, and no picture at all."""
    portrait = torch.from_numpy(data.astronaut()[:256, 96:352]).permute(2, 0, 1) / 255
    small = torch.nn.functional.avg_pool2d(portrait, 4)
    shown = Images(torch.stack([small, small.flip(1), torch.full_like(small, 0.5)]))
    assert face(shown, [Prompt("a face")] * 3).tolist() == [1.0, 0.0, 0.0]


def test_where_z_is_drawn_from_learns_and_the_generator_is_not_written(weights: Path, tmp_path: Path) -> None:
    """On random weights, with a judge that has something to say of them."""
    small = "--steps 2 --prompts_per_step 2 --group_size 4 --evaluation.prompts= --reward contrast --quiet"
    out = tmp_path / "run"
    named = ["--model.settings.weights", str(weights), "--out", str(out)]
    assert main(["train", str(ROOT / "examples" / "faces.py"), *named, *small.split()]) == 0
    assert all(line["grad_norm"] > 0 for line in lines_of(out))
    (written,) = out.rglob("*.safetensors")
    learnt = load_file(written)
    assert learnt["mean"].shape == (NOISE,) and learnt["mean"].abs().max() > 0 and learnt.keys() == {"mean", "log_std"}
