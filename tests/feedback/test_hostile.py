"""What a stranger, or somebody who was invited and means harm, may send: what is kept is what the valid events say."""

from __future__ import annotations

import copy
import json
import random
import socket
import sqlite3
from collections.abc import Sequence
from typing import Any

from feedback.collection import ledger_of
from feedback.test_desk import ADMIN, hosted
from limner.feedback.answer import DAY_MS
from limner.feedback.desk import BODY_BYTES
from limner.feedback.ledger import Ledger

REQUESTS, PAIRS = 2000, 60
SPOT = {"item": 0, "kind": "artifact", "r": 0.05, "points": [[0.25, 0.5]]}
ODD: list[Any] = [
    None,
    True,
    -1,
    1.5,
    10**30,
    "",
    "left ",
    "\u4f60" * 3000,
    [],
    {},
    [[]],
    {"left": "left"},
    [None],
    "\0",
]
TEXTS = ("broken", "\u4f60\u597d \U0001f600", "a\0b", "'; drop table event; --", "<script>", "\u202e" * 99, "x" * 2000)
FIELDS: dict[str, list[Any]] = {
    "key": [
        None,
        5,
        "",
        "short",
        "x" * 65,
        "has spaces",
        "\u043a\u043b\u044e\u0447-8888",
        "newline-1\n",
        ["a"],
        "\ud800" * 9,
    ],
    "assignment": [None, "1", -1, 0, 1.5, True, 2**53 + 1, 10**30, [], {}, 987654],
    "type": [None, "", "VOTE", "drop table event", 3, [], {"vote": 1}, "vote ", "undo\0"],
    "payload": [None, [], "left", 5, True, [[]], "\ud800"],
    "latency_ms": [None, -1, 1.5, "9", DAY_MS + 1, True, [], 10**300],
    "dwell_ms": [None, -1, 1.5, "9", DAY_MS + 1, False, {}],
    "viewport": [None, 5, "9" * 33, "wide", [], {}, "1280x720\n"],
}
"""Of each field values that no event has."""
CHOICES: list[Any] = [None, True, 0, 1, 1.0, "LEFT", "middle", ["left"], {}, "left\0", "\ud800"]


def spots(field: str, *values: Any) -> list[Any]:
    """Return marks of which one thing is no mark's."""
    return [[SPOT | {field: value}] for value in values]


PAYLOADS: dict[str, list[Any]] = {
    "choices": [
        *(None, [], {}, "left", 5, {"overall": "left", "more": "left"}, {"quality": "left"}),
        *({"overall": bad} for bad in CHOICES),
    ],
    "marks": [
        *(None, {}, "x", 5, [None], [[]], [SPOT] * 65, [SPOT | {"points": [[0.5, 0.5]] * 1001}] * 2),
        *spots("item", 2, -1, True, None, "0", 10**30),
        *spots("kind", None, "colour", [], 5),
        *spots("r", 1.5, -0.1, "x", None, True, [], 10**400),
        *spots("points", None, [], {}, [5], [[0.5]], [[0.5] * 3], [[2, 0]], [["a", 0]], [[True, 0]]),
    ],
    "words": [None, {}, "x", [-1], [1.5], ["a"], [True], [10_001], [None], list(range(10_001))],
    "strength": [4, -1, 1.5, "2", True, [], {}, 10**30],
    "text": [None, 5, [], {}, True, "x" * 2001],
}
"""Of what a vote says, values that no vote has."""
BODIES = [
    *(
        b"",
        b"{",
        b"{}",
        b"nul",
        b"5",
        b'"x"',
        b"\xff\xfe",
        b"\0",
        b"[" * 100_000,
        b"[1,]",
        b"[NaN]",
        b"[Infinity]",
        b"[1e999]",
    ),
    *(
        b"[%s]" % (b"9" * 5000),
        b"[" + b"1," * 100 + b"1]",
        b'"' + b"x" * BODY_BYTES + b'"',
        b"[{}" + b" " * BODY_BYTES + b"]",
    ),
]
DEEP = [b'[{"key": "deep-event", "payload": %s0%s}]' % (b'{"x":' * n, b"}" * n) for n in (20, 200, 900, 980, 5000)]
PATHS = [
    *(
        "/api/media/-1/0",
        "/api/media/1/99",
        "/api/media/1e3/0",
        "/api/media/1/0/../../../etc/passwd",
        "/static/../desk.py",
    ),
    *("/static/%2e%2e%2fdesk.py", "/static/page.css%00", "//api//next", "/api/next?count=-1", "/api/next?count=%D9%A3"),
    *(
        "/api/next?count=99999999999",
        "/%",
        "/%ff%fe",
        "/" + "a" * 8000,
        "/admin/../api/export",
        "*",
        "http://evil/api/next",
    ),
    *(f"/api/media/{'9' * 5000}/0", f"/api/media/1/{'9' * 5000}", "/api/standing", "/api/export", "/votes.db", "/?#x"),
]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get", "G\0T", "\xff\xfe"]
HEADERS = [
    *(
        "Content-Length: -1",
        "Content-Length: 1e3",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip",
        "Upgrade: websocket",
    ),
    *(
        "Content-Encoding: gzip",
        "Content-Type: text/xml",
        "Host:",
        "X: " + "y" * 70_000,
        "\xff: \xff",
        "no colon",
        ": empty",
    ),
    *(
        "Range: bytes=-9999999-",
        "Cookie: " + "a=b;" * 500,
        "Origin: null",
        "Expect: 100-continue",
        "X-Forwarded-For: 127.0.0.1",
    ),
]


def sent(url: str, method: str, path: str, headers: list[str], body: bytes = b"") -> tuple[int, bytes]:
    """Send bytes as they are; return the status and the body of the reply, or 0 where the host hung up."""
    host, _, port = url.removeprefix("http://").partition(":")
    own = (
        []
        if any(each.startswith(("Content-Length", "Transfer")) for each in headers)
        else [f"Content-Length: {len(body)}"]
    )
    head = "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *headers, *own, "", ""]).encode("latin-1")
    reply = b""
    try:
        with socket.create_connection((host, int(port)), 20) as connection:
            connection.sendall(head + body + b"\r\n\r\n")  # no chunk is waited for
            while part := connection.recv(2**16):
                reply += part
    except ConnectionError:
        pass  # it did not listen to the end
    first, _, rest = reply.partition(b"\r\n\r\n")
    return (int(first.split()[1]) if first else 0), rest


class Hostile:
    """Somebody who holds a link, what of theirs is valid, and what they send."""

    def __init__(self, ledger: Ledger, tokens: dict[str, str], seed: int) -> None:
        self.rng, self.tokens = random.Random(seed), tokens
        self.order: dict[int, tuple[int, ...]] = {}
        self.free: list[int] = []
        people = {name: ledger.who(token) for name, token in tokens.items()}
        me, other = people["mine"], people["other"]
        assert me is not None and other is not None
        for assignment in ledger.next(me, PAIRS):
            self.order[assignment.id] = assignment.order
            self.free.append(assignment.id)
        self.theirs = [assignment.id for assignment in ledger.next(other, PAIRS)]
        self.live: dict[int, str] = {}
        self.kept: list[tuple[str, int, str, dict[str, Any]]] = []
        """Key, question, type and payload of each event that counts, in order."""

    def event(self, assignment: int, type: str = "vote") -> dict[str, Any]:
        rng = self.rng
        said: dict[str, Any] = {"choices": {"overall": rng.choice(["left", "right", "tie_good", "tie_bad"])}}
        if rng.random() < 0.5:
            said |= {
                "marks": [SPOT | {"item": rng.randrange(2)}] * rng.randrange(1, 3),
                "words": [2, 0, 2],
                "strength": 3,
            }
        if rng.random() < 0.5:
            said["text"] = rng.choice(TEXTS)
        payload = said if type == "vote" else {"text": rng.choice(TEXTS)} if type != "undo" else {}
        key = f"key-{rng.randrange(16**12):012x}"
        return {
            "key": key,
            "assignment": assignment,
            "type": type,
            "payload": payload,
            "latency_ms": 900,
            "dwell_ms": 9,
        }

    def valid(self) -> list[dict[str, Any]]:
        """Return an event that counts, and keep what it says; nothing if no question is left."""
        rng = self.rng
        if self.live and rng.random() < 0.4:
            assignment, type = rng.choice(sorted(self.live)), "undo"
        elif self.free:
            assignment, type = self.free.pop(), rng.choice(["vote", "vote", "vote", "skip", "flag"])
        else:
            return []
        event = self.event(assignment, type)
        if type == "undo":
            del self.live[assignment]
            self.free.append(assignment)
        else:
            self.live[assignment] = event["key"]
        self.kept.append((event["key"], assignment, type, self.placed(event)))
        return [event]

    def placed(self, event: dict[str, Any]) -> dict[str, Any]:
        """Return what is to be kept of it, by the test alone: places of the pair, whatever side each had."""
        said, order = event["payload"], self.order[event["assignment"]]
        if event["type"] != "vote":
            return {} if event["type"] == "undo" else {"text": said["text"]}
        sides = dict(zip(("left", "right"), order, strict=True))
        choice = said["choices"]["overall"]
        kept = {"choices": {"overall": sides.get(choice, choice)}, "shown": said}
        if "marks" in said:
            kept |= {
                "marks": [mark | {"item": order[mark["item"]]} for mark in said["marks"]],
                "words": [0, 2],
                "strength": 3,
            }
        return kept | ({"text": said["text"]} if "text" in said else {})

    def junk(self, busy: Sequence[int] = ()) -> Any:
        """Return what is no event of theirs; but for one place it may be one. `busy`: questions to leave alone."""
        rng = self.rng
        if rng.random() < 0.15:
            return rng.choice(ODD)
        free, live = ([each for each in some if each not in busy] for some in (self.free, sorted(self.live)))
        event = copy.deepcopy(self.event(rng.choice(free or live)))
        what = rng.random()
        if what < 0.15:  # another's question, or one that was answered
            event["assignment"] = rng.choice(self.theirs + live)
        elif what < 0.2:  # nothing to take back
            event |= {"type": "undo", "assignment": rng.choice(free or self.theirs), "payload": {}}
        elif what < 0.6:
            field = rng.choice(list(FIELDS))
            event[field] = rng.choice(FIELDS[field])
        elif what < 0.65:
            del event[rng.choice(["key", "assignment", "type", "payload", "latency_ms", "dwell_ms"])]
        else:
            field = rng.choice(list(PAYLOADS))
            event["payload"][field] = rng.choice(PAYLOADS[field])
        return event

    def request(self) -> tuple[str, str, list[str], bytes, list[str] | None]:
        """Return method, path, headers and body, and the keys that are to be taken; None: nothing of it."""
        rng, mine = self.rng, f"Authorization: Bearer {self.tokens['mine']}"
        what = rng.random()
        if what < 0.5:
            good = self.valid() if rng.random() < 0.15 else []
            busy = [event["assignment"] for event in good]
            events = [self.junk(busy) for _ in range(rng.randrange(1, 5))]
            for event in good:  # whatever is said before it and after it
                events.insert(rng.randrange(len(events) + 1), event)
            return "POST", "/api/events", [mine], json.dumps(events).encode(), [event["key"] for event in good]
        if what < 0.55 and self.kept:  # what was sent is sent again, and otherwise
            key, assignment, *_ = rng.choice(self.kept)
            event = self.event(assignment) | {"key": key}
            if rng.random() < 0.5:
                other = f"Authorization: Bearer {self.tokens['other']}"
                event["assignment"] = rng.choice(self.theirs)
                return "POST", "/api/events", [other], json.dumps([event]).encode(), []
            return "POST", "/api/events", [mine], json.dumps([event]).encode(), [key]
        if what < 0.65:
            return "POST", "/api/events", [mine], rng.choice([*BODIES, *DEEP]), None
        body = json.dumps([self.junk()]).encode()
        if what < 0.8:
            return rng.choice(METHODS), rng.choice([*PATHS, "/api/events", "/api/next"]), [mine], body, None
        if what < 0.9:
            return "POST", rng.choice(["/api/events", "/api/next"]), [mine, rng.choice(HEADERS)], body, None
        body = json.dumps([self.event(rng.choice(self.free or self.theirs))]).encode()  # all is well but who says it
        token = self.tokens["mine"]
        wrong = [
            *(
                [],
                ["Authorization:"],
                ["Authorization: Bearer"],
                [f"Authorization: {token}"],
                [f"Authorization: Basic {token}"],
            ),
            *(
                [f"Authorization: Bearer {each}"]
                for each in (token[:-1], f"{token}x", token.swapcase(), "\xff", ADMIN, "' or 1=1")
            ),
            *([f"X-Token: {token}", f"Cookie: token={token}"], ["Authorization: Bearer nobody", mine]),
        ]
        return "POST", f"/api/events?token={token}", rng.choice(wrong), body, None


def events(ledger: Ledger) -> list[tuple[str, int, str, dict[str, Any]]]:
    """Return what the database holds, read by sqlite alone."""
    with sqlite3.connect(str(ledger.engine.url.database)) as connection:
        rows = connection.execute("select key, assignment, type, payload from event order by id").fetchall()
    return [(key, assignment, type, json.loads(payload)) for key, assignment, type, payload in rows]


def test_two_thousand_hostile_requests_change_nothing_but_what_their_valid_events_say(tmp_path):
    ledger = ledger_of(tmp_path, PAIRS, least=3, most=3, gold=0.0, repeat=0.0)
    invited = dict(zip(("mine", "other", "honest"), (token for _, token in ledger.invite(3)), strict=True))
    hostile = Hostile(ledger, invited, seed=0)
    taken = refused = 0
    with hosted(ledger) as url:
        for _ in range(REQUESTS):
            method, path, headers, body, meant = hostile.request()
            status, reply = sent(url, method, path, headers, body)
            said = (method, path[:80], headers, body[:2000], status, reply[:300])
            assert status < 500, said
            assert not (path.startswith(("/api/export", "/api/standing")) and status == 200), said
            if meant is None:
                assert not path.startswith("/api/events") or status != 200 or b'"ok":true' not in reply, said
                refused += 1
                continue
            assert status == 200, said
            receipts = json.loads(reply)["receipts"]
            assert [each["key"] for each in receipts if each["ok"]] == meant, said
            assert all(each["error"] for each in receipts if not each["ok"]), said
            taken += len(meant)
        assert events(ledger) == hostile.kept and len(hostile.kept) > 60 and refused > 500
        answer = json.loads(sent(url, "GET", "/api/next", [f"Authorization: Bearer {invited['honest']}"])[1])
        [given] = answer["assignments"]
        last = {"key": "an-honest-vote", "assignment": given["id"], "type": "vote", "latency_ms": 900, "dwell_ms": 900}
        last["payload"] = {"choices": {"overall": "left"}}
        answered = sent(
            url, "POST", "/api/events", [f"Authorization: Bearer {invited['honest']}"], json.dumps([last]).encode()
        )
        assert json.loads(answered[1])["receipts"] == [{"key": "an-honest-vote", "ok": True}]
        for path in ("/api/export", "/api/standing"):  # nobody's words keep others from what was said
            status, reply = sent(url, "GET", path, [f"Authorization: Bearer {ADMIN}"])
            assert status == 200 and [json.loads(line) for line in reply.decode().strip().split("\n")]
    *kept, honest = events(ledger)
    assert kept == hostile.kept and honest[0] == "an-honest-vote"
    again = Ledger(str(ledger.engine.url))
    live = [payload["choices"] for key, at, type, payload in kept if hostile.live.get(at) == key and type == "vote"]
    assert [vote.choices for vote in again.votes()][:-1] == live
    assert [len(each) for each in (again.board.annotators, again.board.tasks, again.board.items)] == [
        3,
        PAIRS,
        2 * PAIRS,
    ]
    assert len(again.board.assignments) == 2 * PAIRS + 1


def test_half_a_letter_is_kept_as_a_question_mark_and_the_export_can_still_be_read(tmp_path):
    """A browser that cuts a text cuts an emoji in two; no file in UTF-8 can hold the half."""
    ledger = ledger_of(tmp_path, 4, gold=0.0, repeat=0.0)
    token = ledger.invite(1)[0][1]
    who = ledger.who(token)
    assert who is not None
    first, second = ledger.next(who, 2)
    vote = {"assignment": first.id, "type": "vote", "latency_ms": 1, "dwell_ms": 1}
    sent_ = [
        vote | {"key": "half-a-letter", "payload": {"choices": {"overall": "left"}, "text": "so \ud83d"}},
        vote | {"key": "half-a-flag", "assignment": second.id, "type": "flag", "payload": {"text": "\udc00!"}},
        vote | {"key": "\ud800", "payload": {}},
    ]
    with hosted(ledger) as url:
        status, reply = sent(url, "POST", "/api/events", [f"Authorization: Bearer {token}"], json.dumps(sent_).encode())
        assert status == 200 and [each["ok"] for each in json.loads(reply)["receipts"]] == [True, True, False]
        status, reply = sent(url, "GET", "/api/export", [f"Authorization: Bearer {ADMIN}"])
        assert status == 200 and json.loads(reply)["said"][0]["text"] == "so ?"
        status, reply = sent(url, "GET", "/api/standing", [f"Authorization: Bearer {ADMIN}"])
        assert status == 200 and [each["text"] for each in json.loads(reply)["reported"]] == ["?!"]
