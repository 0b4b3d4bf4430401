"""Whatever is sent, the host answers, goes on serving, and does not grow."""

import asyncio
import json
import random
import socket
from collections import Counter
from collections.abc import Iterator

import psutil
import pytest
import torch
from safetensors.torch import save

from limner.core.media import Images
from limner.core.types import Prompt
from limner.judging.wire import CONTENT_TYPE, Limits, decode_answer, encode_request
from limner.rewards.jpeg_size import jpeg_size
from limner.rewards.remote import Remote
from limner.serve.app import app
from serving import call, hosted

MEDIA = Images(torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(2)))
PROMPTS = [Prompt("a", {"n": [1, 2]}), Prompt("b")]
GOOD = encode_request(MEDIA, PROMPTS, 60)
HEADER = int.from_bytes(GOOD[:8], "little")
TOTAL, REAL = 10_000, 400
JUNK = [
    None,
    True,
    -1,
    2**70,
    1e308,
    "x",
    [],
    {},
    [[]],
    {"path": "/etc/passwd"},
    "http://127.0.0.1/",
    "\ud800",
    [3] * 50,
]


def malformed(rng: random.Random) -> bytes:
    """Return bytes that are near a request, or far from one."""
    kind = rng.randrange(6)
    if kind == 0:
        return rng.randbytes(rng.randrange(400))
    if kind == 1:
        return GOOD[: rng.randrange(len(GOOD))]
    if kind == 2:  # bytes of the header changed
        body = bytearray(GOOD)
        for _ in range(rng.randrange(1, 8)):
            body[rng.randrange(8 + HEADER)] = rng.randrange(256)
        return bytes(body)
    if kind == 3:  # a header's length that lies
        return rng.choice([0, 1, HEADER - 1, HEADER + 1, 2**31, 2**63, 2**64 - 1]).to_bytes(8, "little") + GOOD[8:]
    if kind == 4:  # JSON that means something else
        header = json.loads(GOOD[8 : 8 + HEADER])
        place = rng.choice([header, header["frames"], header["__metadata__"]])
        place[rng.choice([*place, "more"])] = rng.choice(JUNK)
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + GOOD[8 + HEADER :]
    content = json.loads(json.loads(GOOD[8 : 8 + HEADER])["__metadata__"]["request"])
    place = rng.choice([content, *content["items"]])
    place[rng.choice([*place, "more"])] = rng.choice(JUNK)
    shape = rng.choice([(2, 1, 8, 8, 3), (2, 1, 8, 8, 3), (2, 8, 8, 3), (1, 1, 8, 8, 3), (0, 1, 8, 8, 3)])
    dtype = rng.choice([torch.uint8, torch.uint8, torch.float32, torch.int8])
    return save({"frames": torch.zeros(shape, dtype=dtype)}, {"request": json.dumps(content)})


def bodies(count: int, seed: int) -> Iterator[bytes]:
    rng = random.Random(seed)
    return (malformed(rng) for _ in range(count))


def test_ten_thousand_malformed_requests_in_this_process() -> None:
    application = app(jpeg_size, "jpeg_size", Limits(waiting=4))
    process, seen, memory = psutil.Process(), Counter[int](), []

    async def run() -> bytes:
        for number, body in enumerate(bodies(TOTAL, 0)):
            status, _, answer = await call(application, "/v1/score", body, content_type=CONTENT_TYPE)
            assert len(answer) < 1000 or status == 200
            seen[status] += 1
            if number in (TOTAL // 10, TOTAL - 1):
                memory.append(process.memory_info().rss)
        return (await call(application, "/v1/score", GOOD, content_type=CONTENT_TYPE))[2]

    rows = decode_answer(asyncio.run(run()), 2).rows
    assert [row["score"] for row in rows] == jpeg_size(MEDIA.rounded(), PROMPTS).tolist()
    assert set(seen) <= {200, 400, 413, 503} and seen[400] > 0.9 * TOTAL, seen
    assert memory[1] - memory[0] < 20 * 2**20


def wire_level(body: bytes, rng: random.Random) -> bytes:
    """Return what is sent: a request with a malformed body, or one that is malformed as HTTP."""
    kind = rng.randrange(6)
    length: object = len(body) if kind < 3 else rng.choice([len(body) + 50, -1, "x", 10**30, 0])
    head = f"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Type: {CONTENT_TYPE}\r\n"
    if kind == 5:
        return rng.choice(
            [body, b"\r\n" * 50, b"GET / HTTP/9.9\r\n\r\n", b"PUT /v1/score HTTP/1.1\r\n", b"\x16\x03\x01" * 9]
        )
    return f"{head}Content-Length: {length}\r\nConnection: close\r\n\r\n".encode() + body


def test_hundreds_of_malformed_requests_over_sockets(caplog: pytest.LogCaptureFixture) -> None:
    rng = random.Random(1)
    with hosted(jpeg_size) as url:
        place = ("127.0.0.1", int(url.rpartition(":")[2]))
        for number, body in enumerate(bodies(REAL, 1)):
            with socket.create_connection(place, timeout=5) as client:
                try:
                    client.sendall(wire_level(body, rng))
                    client.shutdown(socket.SHUT_WR)
                    status = client.recv(12)
                except (ConnectionResetError, BrokenPipeError):
                    status = b""
            assert status[9:12] in (b"", b"200", b"400", b"404", b"405", b"413"), (number, status)
        judged = Remote(url=url)(MEDIA, PROMPTS)
    assert torch.equal(judged.score, jpeg_size(MEDIA.rounded(), PROMPTS))
