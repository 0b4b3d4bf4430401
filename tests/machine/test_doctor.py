"""What `limner doctor` says of machines that are well, and of those that are not."""

from __future__ import annotations

import importlib.metadata
import socket
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
    monkeypatch.setattr(doctor, "round_trip", lambda: "no interface")
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
