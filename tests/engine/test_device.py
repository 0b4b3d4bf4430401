import subprocess
import sys

import pytest
import torch

from limner.core.errors import UserError
from limner.engine.device import resolve
from limner.engine.memory import peak_memory_mib


def test_auto_takes_the_first_of_cuda_mps_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve("auto") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve("auto") == torch.device("cuda")


@pytest.mark.parametrize("device", ["gpu", "cuda", "cuda:1", "mps", "xpu", "cuda:x", "cpu:1", ""])
def test_an_unknown_or_absent_device_is_one_line(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=repr(device)) as caught:
        resolve(device)
    assert "\n" not in str(caught.value)


def test_a_cuda_index_is_checked(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve("cuda:1") == torch.device("cuda:1")
    with pytest.raises(UserError, match="end at 1"):
        resolve("cuda:2")


def test_peak_memory_grows_with_what_is_held():
    cpu = torch.device("cpu")
    before = peak_memory_mib(cpu)
    held = torch.ones(int(before) + 64, 2**18)
    assert peak_memory_mib(cpu) - before > 60
    assert held[0, 0] == 1


def test_a_peak_is_not_that_of_the_process_that_started_this_one() -> None:
    ballast = torch.ones(2**28)  # 1 GiB
    code = "import torch; from limner.engine.memory import peak_memory_mib; print(peak_memory_mib(torch.device('cpu')))"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert ballast.nbytes / 2**20 > float(found) > 100
