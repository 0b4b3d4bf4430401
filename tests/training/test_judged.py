"""What was said of the segments of clips, brought to latents: by hand, on files of clips."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from limner.algorithms.dpo import DPO
from limner.algorithms.kto import KTO
from limner.core.errors import UserError
from limner.core.media import Media, Videos
from limner.core.types import LatentSpec, Prompt
from limner.data.preferences import Preference
from limner.data.rows import Segments
from limner.training.judged import Library, encoded, teaching

SPEC = LatentSpec((2, 3, 4, 4), torch.float32, torch.device("cpu"))
SIZE = (9, 8, 8)
"""Nine frames, of which a latent has three times: the first frame, and twice four."""


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[Path, Path]]:
    """Two clips of 9 frames, and two of 12, each frame of another grey."""
    place = tmp_path_factory.mktemp("clips")
    found = {}
    for frames in (9, 12):
        paths = (place / f"a{frames}.webp", place / f"b{frames}.webp")
        shades = torch.linspace(0, 1, frames).view(1, -1, 1, 1, 1).expand(2, -1, 3, 8, 8)
        Videos(shades, 8.0).save(paths)
        found[frames] = paths
    return found


def encode(media: Media) -> torch.Tensor:
    return media.frames().mean((1, 2, 3, 4)).view(-1, 1, 1, 1, 1).expand(-1, *SPEC.shape)


def library(*preferences: Preference) -> Library:
    return encoded(preferences, encode, SIZE, SPEC, 4)[0]


def said(pictures: tuple[Path, Path], *labels: float, frames: int | None = None, **more: object) -> Preference:
    segments = Segments(labels, frames)
    return Preference(Prompt("p"), pictures, segments.worth, "pairs.jsonl, line 1", segments=segments, **more)


def test_labels_come_to_the_times_of_a_latent(clips: dict[int, tuple[Path, Path]]) -> None:
    """Frames 0 to 8 in parts of two have labels 1 1 -1 -1 0 0 1 1 -1: times are frame 0, frames 1 to 4 and 5 to 8."""
    found = library(
        said(clips[9], 1, -1, 0, 1, -1, frames=2),
        said(clips[9], 1, 1, -1),
        said(clips[12], 1, 0, 0, -1, frames=3),
        Preference(Prompt("q"), clips[9], (0.0, 1.0), "line 2"),
    )
    assert found.regions.shape == (4, 1, 3, 1, 1)
    labels = [[1, 1, 1], [1, -1 / 4, 1 / 4], [1, 1, -1 / 2], [1, 1 / 2, 0]]
    torch.testing.assert_close(found.regions.flatten(1), torch.tensor(labels), atol=1e-7, rtol=0)
    assert [each.region for each in found.judged] == [1, 2, 3, 0]
    assert [each.worth for each in found.judged] == [(1, 0), (1, 0), (1, 0), (0, 1)]


def test_a_pair_that_is_better_nowhere_is_a_tie(clips: dict[int, tuple[Path, Path]]) -> None:
    tie, even = said(clips[9], 0, 0), said(clips[9], 1, -1)
    assert tie.worth == even.worth == (0.5, 0.5) and not tie.tells_apart and even.tells_apart
    assert [each.worth for each in library(tie, even).judged] == [(0.5, 0.5), (1, 0)]


def test_segments_that_have_no_place_are_refused(clips: dict[int, tuple[Path, Path]]) -> None:
    with pytest.raises(UserError, match="line 1: a clip is longer than the 9 frames that count.*segment_frames"):
        library(said(clips[12], 1, -1))
    with pytest.raises(UserError, match="2 segments of 4 frames are less than 9 frames"):
        library(said(clips[9], 1, -1, frames=4))
    still = LatentSpec((2, 4, 4), torch.float32, torch.device("cpu"))
    with pytest.raises(UserError, match="segments are parts of clips, and these are pictures"):
        encoded([said(clips[9], 1, -1)], encode, SIZE, still, 4)


def test_who_learns_from_segments_and_who_does_not(clips: dict[int, tuple[Path, Path]]) -> None:
    even, mostly = said(clips[9], 1, -1), said(clips[9], 1, 1, -1)
    assert teaching([even], DPO(), "pairs") == [even]
    for algorithm in (KTO(), DPO(loss="calibrated")):
        with pytest.raises(UserError, match="learns from clips as a whole.*--source.segments false"):
            teaching([mostly], algorithm, "pairs")
    (whole,) = teaching([mostly], DPO(), "pairs", segments=False)
    assert whole.segments is None and whole.worth == (1, 0) and whole.tells_apart
    with pytest.raises(UserError, match="has no such pair"):
        teaching([even], DPO(), "pairs", segments=False)


def test_who_learns_from_single_pictures_is_given_pairs_only_where_that_is_said() -> None:
    """One pair among single pictures is refused, too; where they are unpaired all stay as they are."""
    liked = [Preference(Prompt("p"), (Path("a.png"),), (worth,), "line 1") for worth in (1.0, 0.0)]
    pair = Preference(Prompt("p"), (Path("a.png"), Path("b.png")), (1.0, 0.0), "line 3")
    assert teaching(liked, KTO(), "pairs") == liked
    with pytest.raises(UserError, match="but 1 of 3 rows of pairs are pairs.*give --source.unpair true"):
        teaching([*liked, pair], KTO(), "pairs")
    assert teaching([*liked, pair], KTO(), "pairs", unpair=True) == [*liked, pair]
    assert teaching([pair], KTO(judged="group"), "pairs") == [pair]  # which compares
    with pytest.raises(UserError, match="DPO learns from which of two pictures is better, and source.unpair makes"):
        teaching([pair], DPO(), "pairs", unpair=True)
