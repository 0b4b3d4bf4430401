"""One thread that does one thing after another, and does not keep the process from ending."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any


class Worker:
    """A daemon thread, unlike those of ThreadPoolExecutor, for which an interpreter waits before it ends."""

    def __init__(self) -> None:
        self._asked: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="judge", daemon=True)

    def do(self, task: Callable[[], Any]) -> Future[Any]:
        """Do a task after those before it; return what will hold its result, or what it raised."""
        if self._thread.ident is None:
            self._thread.start()
        done: Future[Any] = Future()
        self._asked.put((task, done))
        return done

    def _work(self) -> None:
        while True:
            task, done = self._asked.get()
            try:
                done.set_result(task())
            except BaseException as error:  # whoever asked hears of it
                done.set_exception(error)
            del task, done  # a request is not kept until the next one comes
