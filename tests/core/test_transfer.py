"""What a card computes is written to the machine's memory a step behind, and never before it is there."""

from __future__ import annotations

import torch

from limner.core.transfer import Behind, sent
from pretended_cuda import CUDA, OnCuda, pretended_cuda

ROW = (torch.tensor([1]),)


def test_what_comes_from_a_card_is_written_a_step_behind() -> None:
    """Read at once it would be no number (`pretended_cuda.ON_THE_WAY`)."""
    kept = torch.zeros(3)
    with pretended_cuda() as cuda:
        behind, there = Behind(cuda), torch.tensor([[5.0], [7.0]]).to(cuda)
        for step, sums in enumerate((0.0, 5.0)):
            late = there[step].to(kept, non_blocking=True)
            assert late.isnan().all()
            behind.write([(kept, ROW, late)])
            assert kept.tolist() == [0.0, sums, 0.0]
        behind.settle()
        assert kept.tolist() == [0.0, 7.0, 0.0]
        behind.settle()
        behind.write([(there, (torch.tensor([0, 1]), torch.tensor([0, 0])), torch.ones(2).to(cuda))])
        assert there.tolist() == [[1.0], [1.0]]  # on the card itself it is written at once


def test_without_a_card_it_is_written_at_once() -> None:
    kept, behind = torch.zeros(3), Behind(torch.device("cpu"))
    behind.write([(kept, ROW, torch.tensor([5.0]))])
    assert kept.tolist() == [0.0, 5.0, 0.0]
    assert sent(kept, torch.device("cpu")) is kept


def test_what_is_sent_to_a_card_is_pinned_and_not_waited_for() -> None:
    asked: list[tuple[str, bool]] = []

    class Watched(torch.Tensor):
        def pin_memory(self, *args):
            asked.append(("pinned", True))
            return self

        def to(self, *args, **kwargs):
            asked.append(("to", kwargs.get("non_blocking", False)))
            return self

    sent(torch.ones(2).as_subclass(Watched), CUDA)
    assert asked == [("pinned", True), ("to", True)]
    with pretended_cuda() as cuda:
        found = sent(torch.ones(2), cuda)
        assert isinstance(found, OnCuda) and found.tolist() == [1.0, 1.0]
        assert sent(found, cuda) is found
