"""The pages, the questions and the answers over HTTP, as an ASGI application."""

from __future__ import annotations

import asyncio
import hmac
import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from limner.core.errors import UserError
from limner.feedback.answer import read_answer
from limner.feedback.board import Annotator, Assignment
from limner.feedback.export import lines
from limner.feedback.ledger import Ledger
from limner.feedback.standing import standing
from limner.feedback.task import MEDIA

T = TypeVar("T")
BODY_BYTES, MOST_EVENTS, MOST_NEXT = 2**18, 100, 8
DEEPEST = 16
"""Levels of lists and objects in what is sent; a page's answer with marks has seven."""
SCRIPTS = ("page.js", "moving.js", "looking.js", "admin.js")
STATIC = {"page.css": "text/css", **dict.fromkeys(SCRIPTS, "text/javascript")}
GUARDS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Nothing from elsewhere runs or shows the page, and no address with a token in it travels."""


def app(ledger: Ledger, admin_token: str) -> Starlette:
    """Return the application: pages for all, everything else with `Authorization: Bearer TOKEN`.

    An annotator's token travels behind the # of the link, which browsers keep to themselves. Statuses: 401 no or
    another token, 404 what is not there or not for this annotator, 413 too large, 422 malformed.
    """
    desk = Desk(ledger, admin_token)
    routes = [
        Route("/", desk.page),
        Route("/admin", desk.admin_page),
        Route("/static/{name}", desk.static),
        Route("/api/next", desk.next),
        Route("/api/events", desk.record, methods=["POST"]),
        Route("/api/media/{assignment}/{place}", desk.media),
        Route("/api/standing", desk.standing),
        Route("/api/export", desk.export),
    ]
    return Starlette(routes=routes)


@dataclass
class Desk:
    """Where requests arrive; the ledger is asked in one thread, one request after another."""

    ledger: Ledger
    admin_token: str
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "ledger"))

    async def page(self, request: Request) -> Response:
        """Show the annotator's page."""
        return _file("page.html", "text/html")

    async def admin_page(self, request: Request) -> Response:
        """Show the page of whoever runs the collection."""
        return _file("admin.html", "text/html")

    async def static(self, request: Request) -> Response:
        """Give a script or style."""
        name = request.path_params["name"]
        return _file(name, STATIC[name]) if name in STATIC else _refused(404, "no such file")

    async def next(self, request: Request) -> Response:
        """Give the annotator's next questions."""
        annotator = self._who(request)
        if annotator is None:
            return _refused(401, "this link is not valid: ask for a new one")
        wanted = request.query_params.get("count", "1")
        count = min(MOST_NEXT, int(wanted)) if wanted.isdecimal() and len(wanted) < 3 else 1
        given = await self._ask(lambda: self.ledger.next(annotator, count))
        shown = [self._shown(assignment) for assignment in given]
        progress = await self._ask(lambda: self.ledger.progress(annotator))
        return _json({"assignments": shown, "you": annotator.pseudonym, "questions": self.ledger.questions, **progress})

    async def record(self, request: Request) -> Response:
        """Keep answers, each for itself; what is acknowledged is on the disk."""
        annotator = self._who(request)
        if annotator is None:
            return _refused(401, "this link is not valid: ask for a new one")
        try:
            body = await _body(request)
            given = None if body is None else _sound(json.loads(body))
        except ClientDisconnect:
            return _refused(400, "the client left")
        except (ValueError, RecursionError):
            return _refused(422, f"the body is not JSON of at most {DEEPEST} levels")
        if body is None:
            return _refused(413, f"at most {BODY_BYTES} bytes are read")
        if not isinstance(given, list) or len(given) > MOST_EVENTS:
            return _refused(422, f"a list of at most {MOST_EVENTS} events is needed")
        receipts = [await self._ask(partial(self._receipt, annotator, each)) for each in given]
        progress = await self._ask(lambda: self.ledger.progress(annotator))
        return _json({"receipts": receipts, **progress})

    async def media(self, request: Request) -> Response:
        """Give what is shown at a place of a question, to whom it was given."""
        annotator = self._who(request)
        if annotator is None:
            return _refused(401, "this link is not valid: ask for a new one")
        id, place = (_number(request.path_params[name]) for name in ("assignment", "place"))
        assignment = self.ledger.board.assignments.get(id)
        if assignment is None or assignment.annotator != annotator.id or not 0 <= place < len(assignment.order):
            return _refused(404, "no such picture")
        item = self.ledger.board.items[self.ledger.board.tasks[assignment.task].items[assignment.order[place]]]
        try:
            content = await asyncio.to_thread(item.path.read_bytes)
        except OSError:
            return _refused(404, "the file is gone")
        return Response(content, media_type=MEDIA[item.path.suffix.lower()], headers=GUARDS)

    async def standing(self, request: Request) -> Response:
        """Tell how the collection stands."""
        if not self._runs(request):
            return _refused(401, "the admin link that was printed is needed")
        return _json(await self._ask(lambda: standing(self.ledger)))

    async def export(self, request: Request) -> Response:
        """Give all votes, one JSON object a line."""
        if not self._runs(request):
            return _refused(401, "the admin link that was printed is needed")
        text = await self._ask(lambda: "".join(f"{line}\n" for line in lines(self.ledger)))
        return Response(text, media_type="application/jsonl", headers=GUARDS)

    async def _ask(self, question: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.thread, question)

    def _receipt(self, annotator: Annotator, given: object) -> dict[str, Any]:
        key = given.get("key") if isinstance(given, dict) else None
        try:
            return {"key": self.ledger.record(annotator, read_answer(given)), "ok": True}
        except UserError as error:
            return {"key": key if isinstance(key, str) else None, "ok": False, "error": str(error)}

    def _shown(self, assignment: Assignment) -> dict[str, Any]:
        """Return what an annotator is told of a question: neither who made an item, nor why it is asked."""
        task = self.ledger.board.tasks[assignment.task]
        items = [self.ledger.board.items[task.items[place]] for place in assignment.order]
        return {
            "id": assignment.id,
            "kind": task.kind,
            "prompt": task.prompt,
            "items": [
                {"clip": item.moves, "fps": item.facts.get("fps"), "veiled": item.facts.get("sensitive") is True}
                for item in items
            ],
        }

    def _who(self, request: Request) -> Annotator | None:
        return self.ledger.who(_token(request))

    def _runs(self, request: Request) -> bool:
        return hmac.compare_digest(_token(request).encode(), self.admin_token.encode())


def _token(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme == "Bearer" else ""


def _number(text: str) -> int:
    """Return a number of a path, or -1 for what nothing is counted by."""
    return int(text) if text.isdecimal() and len(text) < 19 else -1


def _sound(given: Any, levels: int = DEEPEST) -> Any:
    """Return JSON that a reply, a database and a file can hold: half of a surrogate pair becomes a question mark.

    Raises ValueError for numbers that are none or infinite, and for what is nested deeper than `levels`.
    """
    if isinstance(given, str):
        return given.encode("utf-8", "replace").decode("utf-8")
    if isinstance(given, float) and not math.isfinite(given):
        raise ValueError("a number that is none")
    if not isinstance(given, list | dict):
        return given
    if not levels:
        raise ValueError("nested too deep")
    if isinstance(given, list):
        return [_sound(each, levels - 1) for each in given]
    return {_sound(name): _sound(each, levels - 1) for name, each in given.items()}


async def _body(request: Request) -> bytes | None:
    """Return the body, or None for one that is too large."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES:
            return None
    return bytes(body)


def _file(name: str, kind: str) -> Response:
    content = (files("limner.feedback") / "page" / name).read_bytes()
    return Response(content, media_type=kind, headers=GUARDS)


def _json(content: object) -> Response:
    return JSONResponse(content, headers=GUARDS)


def _refused(status: int, reason: str) -> Response:
    return JSONResponse({"error": reason}, status, headers=GUARDS)
