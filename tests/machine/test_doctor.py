"""What `limner doctor` says of machines that are well, and of those that are not."""

from __future__ import annotations

import importlib.metadata
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement

from limner.cli import main
from limner.machine import doctor, pair
from limner.machine.doctor import Finding


def levels(look: Callable[[], Iterator[Finding]]) -> dict[str, str]:
    return {finding.name: finding.level for finding in look()}


def test_a_finding_that_is_not_good_says_what_to_do() -> None:
    assert str(Finding("port", "8000 is free")) == "  ok   port         8000 is free"
    said = str(Finding("disk", "full", "fails", "make room"))
    assert said.splitlines() == ["FAILS  disk         full", "                    -> make room"]


def test_this_machine_has_what_limner_needs() -> None:
    assert levels(doctor.versions) == {"packages": "ok"}
    assert set(levels(doctor.software)) == {"limner", "torch"} and "dev" not in levels(doctor.extras)


@pytest.mark.parametrize("wanted", ["no-such-package>=1", "torch>=99"])
def test_a_package_that_is_missing_or_old_is_named(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    monkeypatch.setattr(doctor, "_requirements", lambda: [Requirement(wanted), Requirement("numpy>=1")])
    (found,) = doctor.versions()
    name = Requirement(wanted).name
    assert found.level == "fails" and name in found.said and "numpy" not in found.said
    monkeypatch.setattr(doctor, "_requirements", lambda: [Requirement(f'{wanted}; extra == "bench"')])
    told = {each.name: each for each in doctor.extras()}
    assert told["bench"].level == "note" and told["bench"].remedy == 'pip install "limner[bench]"'


@pytest.mark.parametrize("dtype", doctor.TOLERANCE)
def test_a_product_is_right_in_each_precision(dtype: torch.dtype) -> None:
    found = doctor.product(torch.device("cpu"), dtype, doctor.TOLERANCE[dtype], side=64)
    assert found.level == "ok" and "GFLOP/s" in found.said


def test_a_device_that_computes_wrongly_fails() -> None:
    """The bound is what decides: no product is exact to one part in 10^12."""
    found = doctor.product(torch.device("cpu"), torch.float32, 1e-12, side=64)
    assert found.level == "fails" and "off by" in found.said


def test_a_precision_that_a_device_does_not_know_fails() -> None:
    found = doctor.product(torch.device("cpu"), torch.uint16, 1, side=4)
    assert found.level == "fails" and found.said.startswith("uint16 on cpu: ")


def test_a_taken_port_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr(doctor, "PORT", taken.getsockname()[1])
        assert levels(doctor.port) == {"port": "note"}
    assert levels(doctor.port) == {"port": "ok"}


def test_little_room_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "FREE_DISK", 0)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "not" / "yet"))
    assert levels(doctor.disk) == {"runs": "ok", "hub cache": "ok"}
    monkeypatch.setattr(doctor, "FREE_DISK", 2**30)
    assert levels(doctor.disk) == {"runs": "note", "hub cache": "note"}
    monkeypatch.setattr(doctor, "FREE_MEMORY", 2**30)
    assert levels(doctor.memory) == {"memory": "note"}


def test_two_processes_meet() -> None:
    """Two interpreters import torch: the seconds of this test."""
    assert pair.round_trip() == ""


def test_processes_that_do_not_answer_or_die_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pair.round_trip(0.01) == "no answer in 0.01 s"
    monkeypatch.setattr(pair.sys, "executable", "/bin/false")
    assert pair.round_trip() == "it ended without a word"
    monkeypatch.setattr(doctor, "round_trip", lambda seconds: "no interface")
    (found,) = doctor.processes()
    assert found.level == "fails" and "GLOO_SOCKET_IFNAME" in found.remedy


@pytest.mark.parametrize("failing", [False, True])
def test_the_command_ends_with_1_where_a_run_would_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failing: bool
) -> None:
    found = [Finding("port", "free"), Finding("device", "broken", "fails", "mend it")]
    monkeypatch.setattr(doctor, "examine", lambda: found if failing else found[:1])
    assert main(["doctor"]) == int(failing)
    printed: Any = capsys.readouterr()
    assert "port" in printed.out and ("mend it" in printed.out) == failing
    assert printed.err == ("limner: 1 of 2 findings would fail a run\n" if failing else "")


def test_the_metadata_names_what_is_imported() -> None:
    names = {Requirement(line).name for line in importlib.metadata.requires("limner") or ()}
    assert {"torch", "diffusers", "peft"} <= names


def test_what_hangs_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that never ends, two processes that never meet, and what would have come after: all in the time given."""
    hung = threading.Event()

    def look(name: str) -> Callable[[], list[Finding]]:
        def found() -> list[Finding]:
            if name == "devices":
                hung.wait()
            return [Finding(name, "well")]

        found.__name__ = name
        return found

    names = "software versions extras driver devices cores memory disk port products".split()
    for name in names:
        monkeypatch.setattr(doctor, name, look(name))
    monkeypatch.setattr(
        doctor, "round_trip", lambda seconds: "" if hung.wait(seconds) else f"no answer in {seconds:g} s"
    )
    start = time.monotonic()
    found = {finding.name: finding for finding in doctor.examine(seconds=1.5)}
    took = time.monotonic() - start
    hung.set()
    assert 1.4 < took < 3 and found.keys() == {*names, "processes"}
    assert found["software"].said == "well" and found["devices"].said == "not known: no answer in 1.5 s"
    assert found["devices"].level == "note" and found["processes"].said == "not known: two gave no answer in 0.5 s"


def test_the_bound_is_ten_seconds() -> None:
    (seconds,) = doctor.examine.__defaults__ or ()
    assert seconds == doctor.SECONDS == 10 and doctor.MARGIN < doctor.SECONDS


def test_processes_that_are_too_slow_are_not_called_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "round_trip", lambda seconds: f"no answer in {seconds:g} s")
    (found,) = doctor.processes(9.0)
    assert found.level == "note" and found.said == "not known: two gave no answer in 9 s"


@pytest.mark.parametrize(
    "module",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  535.129.03  Release Build  (dvs-builder@U16-I3)",
    ],
)
def test_the_driver_is_named(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "version").write_text(f"{module}\nGCC version:  gcc version 12.2.0\n")
    monkeypatch.setattr(doctor, "DRIVER", tmp_path / "version")
    assert [str(finding) for finding in doctor.driver()] == ["  ok   driver       NVIDIA 535.129.03"]


def test_the_driver_is_asked_by_its_tool_or_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "DRIVER", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert list(doctor.driver()) == []
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 550.54.15\necho 550.54.15\n")
    tool.chmod(0o755)
    (found,) = doctor.driver()
    assert found.said == "NVIDIA 550.54.15"
