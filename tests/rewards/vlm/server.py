"""A chat service on this machine that answers as it is told, and misbehaves as it is told."""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Say:
    """One answer: a status, a body (a text is sent as it is, anything else as JSON), and how it is sent."""

    body: Any = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    cut: bool = False
    """Promise more bytes than are sent."""
    hang_up: bool = False
    """Close the connection without an answer."""
    drip_s: float = 0.0
    """Seconds between two bytes."""


def text(content: str, **more: Any) -> Say:
    """A reply with this text, and what it cost."""
    usage = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}
    return Say({"choices": [{"message": {"role": "assistant", "content": content}}], "usage": usage}, **more)


def verdict(**values: Any) -> Say:
    """A reply that is a JSON object."""
    return text(json.dumps(values))


def first_token(probabilities: dict[str, float]) -> Say:
    """A reply whose first token has these probabilities."""
    top = [{"token": token, "logprob": math.log(p)} for token, p in probabilities.items()]
    best = max(top, key=lambda entry: entry["logprob"])
    choice = {"message": {"role": "assistant", "content": best["token"]}}
    logprobs = {"content": [{**best, "top_logprobs": top}]}
    return Say({"choices": [{**choice, "logprobs": logprobs}], "usage": {"prompt_tokens": 50, "completion_tokens": 1}})


def task_of(request: dict[str, Any]) -> str:
    """The text that ends a request."""
    return request["messages"][1]["content"][-1]["text"]


@dataclass
class Chat:
    """The running service: what it was asked, and how it decides what to say."""

    url: str
    answer: Callable[[dict[str, Any]], Say]
    requests: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def in_turn(self, *says: Say) -> None:
        """Say these one after the other, the last one for ever."""
        left = list(says)
        self.answer = lambda request: left.pop(0) if len(left) > 1 else left[0]


@contextlib.contextmanager
def serving() -> Iterator[Chat]:
    """Give a service on a free port of this machine, stopped at the end."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with chat.lock:
                chat.requests.append(request)
                chat.paths.append(self.path)
                chat.keys.append(self.headers.get("Authorization"))
                chat.times.append(time.monotonic())
                chat.at_once += 1
                chat.most_at_once = max(chat.most_at_once, chat.at_once)
                say = chat.answer(request)
            time.sleep(say.delay_s)
            with chat.lock:
                chat.at_once -= 1
            self.close_connection = True
            if say.hang_up:
                return
            body = (say.body if isinstance(say.body, str) else json.dumps(say.body)).encode()
            self.send_response(say.status)
            for name, value in {"Content-Length": str(len(body) + 10 * say.cut), **say.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(OSError):  # a client that gave up
                for start in range(len(body)) if say.drip_s else ():
                    self.wfile.write(body[start : start + 1])
                    time.sleep(say.drip_s)
                if not say.drip_s:
                    self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    chat = Chat(f"http://127.0.0.1:{server.server_port}/v1", lambda request: text("yes"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield chat
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
