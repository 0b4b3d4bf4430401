"""Named randomness: a stream depends on its name alone."""

from __future__ import annotations

import subprocess
import sys

import torch

from limner.core.rng import Rng, fixed_share


def test_a_row_depends_on_its_id_alone():
    rng = Rng((3, "noise", 7))
    whole = rng.normal(torch.tensor([5, 1, 9]), (4, 2))
    assert torch.equal(rng.normal(torch.tensor([9]), (4, 2))[0], whole[2])
    assert torch.equal(rng.normal(torch.tensor([1, 5]), (4, 2)), whole[[1, 0]])
    assert not torch.equal(whole[0], whole[1])


def test_names_are_not_joined():
    """(1, 23) and (12, 3) are different streams, and so are 1 and "1"."""
    seeds = {Rng(key).seed() for key in [(1, 23), (12, 3), (123,), ("123",), ("1", 23), (1, "23")]}
    assert len(seeds) == 6


def test_a_seed_is_the_same_in_another_process():
    code = "from limner.core.rng import Rng; print(Rng((0, 'a', 5)).child('b', 2).seed())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(told) == Rng((0, "a", 5, "b", 2)).seed()
    assert 0 <= int(told) < 2**63


def test_moments():
    ids = torch.arange(4000)
    normal, uniform = Rng(("m",)).normal(ids, (16,)), Rng(("m",)).uniform(ids, (16,))
    assert abs(normal.mean()) < 0.02 and abs(normal.std() - 1) < 0.02
    assert abs(uniform.mean() - 0.5) < 0.01 and uniform.min() >= 0 and uniform.max() < 1
    correlation = (normal[:-1] * normal[1:]).mean()
    assert abs(correlation) < 0.02


def test_no_ids_no_rows():
    assert Rng((0,)).normal(torch.tensor([], dtype=torch.long), (3, 2)).shape == (0, 3, 2)


def test_a_name_always_has_the_same_share() -> None:
    """SHA-256 of "abc" begins with ba7816bf 8f01cfea (FIPS 180-2, appendix B.1); shares of many names are uniform."""
    assert fixed_share("abc") == 0xBA7816BF8F01CFEA / 2**64
    shares = torch.tensor([fixed_share(f"name {i}") for i in range(4000)])
    assert 0 <= shares.min() and shares.max() < 1 and abs((shares < 0.25).float().mean() - 0.25) < 0.03
