"""A Ray cluster of this machine, started as a person starts one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

START = ["start", "--head", "--port=0", "--node-ip-address=127.0.0.1", "--num-cpus=4", "--include-dashboard=false"]
PLAIN = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """`ray start --head`, with four cores and two of a resource `judges`, in a folder of its own.

    All that it starts is ended by name of its process group. RAY_ADDRESS says where it is.
    """
    ray = pytest.importorskip("ray", reason="needs the extra limner[ray]")
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # a short path: those of sockets have 107 characters
    command = [str(Path(sys.executable).parent / "ray"), *START, "--resources", '{"judges": 2}', f"--temp-dir={folder}"]
    with (folder / "said").open("w") as said:
        head = subprocess.Popen(
            [*command, "--block"], env=os.environ | PLAIN, stdout=said, stderr=said, start_new_session=True
        )
    address = folder / "ray_current_cluster"
    until = time.monotonic() + 300
    while not address.is_file() and head.poll() is None and time.monotonic() < until:
        time.sleep(0.1)
    try:
        assert address.is_file(), (folder / "said").read_text()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_ADDRESS", address.read_text().strip())
            yield
            ray.shutdown()
    finally:
        os.killpg(head.pid, 9)
        head.wait()
        shutil.rmtree(folder, ignore_errors=True)
