import asyncio
import json
import random
import threading
from collections import Counter
from contextlib import contextmanager

import httpx2
import pytest

from feedback.collection import ledger_of, side_of
from limner.core.errors import UserError
from limner.feedback.answer import read_answer
from limner.feedback.desk import app
from limner.feedback.ledger import Ledger
from limner.serve.door import Door
from limner.serve.host import listen, server

ADMIN = "the-admins-own-token"


@contextmanager
def hosted(ledger):
    with listen("127.0.0.1", 0, ADMIN) as listener:
        host = server(app(ledger, ADMIN), Door(places=2048))
        thread = threading.Thread(target=host.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            host.should_exit = True
            thread.join(10)


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def said(assignment, choice, key):
    payload = {"choices": {"overall": choice}}
    return {
        "key": key,
        "assignment": assignment,
        "type": "vote",
        "payload": payload,
        "latency_ms": 900,
        "dwell_ms": 900,
    }


def test_an_annotator_sees_pictures_and_neither_who_made_them_nor_why(tmp_path):
    ledger = ledger_of(tmp_path)
    [(name, token)] = ledger.invite(1)
    with hosted(ledger) as url, httpx2.Client(base_url=url) as client:
        given = client.get("/api/next?count=3", headers=bearer(token)).json()
        assert given["you"] == name and given["total"] == 12 and len(given["assignments"]) == 3
        first = given["assignments"][0]
        assert set(first) == {"id", "kind", "prompt", "items"} and set(first["items"][0]) == {"clip", "fps", "veiled"}
        good = side_of(ledger, ledger.board.assignments[first["id"]], "good")
        for place, side in enumerate(("left", "right")):
            reply = client.get(f"/api/media/{first['id']}/{place}", headers=bearer(token))
            kept = {item.path.read_bytes(): item.source for item in ledger.board.items.values()}
            assert reply.headers["content-type"] == "image/png" and (kept[reply.content] == "good") == (side == good)
        assert given == client.get("/api/next?count=3", headers=bearer(token)).json()
        reply = client.post("/api/events", headers=bearer(token), json=[said(first["id"], good, "first-vote")]).json()
        assert reply == {"receipts": [{"key": "first-vote", "ok": True}], "done": 1, "total": 12}
        row = json.loads(client.get("/api/export", headers=bearer(ADMIN)).text)
        assert row[f"source_{row['choice']}"] == "good"
        assert client.get("/api/standing", headers=bearer(ADMIN)).json()["judged"] == 1
        page = client.get("/")
        assert "default-src 'self'" in page.headers["content-security-policy"] and "//" not in page.text.replace(
            "://", ""
        )


def test_nothing_is_told_without_the_right_token(tmp_path):
    ledger = ledger_of(tmp_path)
    (_, mine), (_, other) = ledger.invite(2)
    with hosted(ledger) as url, httpx2.Client(base_url=url) as client:
        id = client.get("/api/next", headers=bearer(mine)).json()["assignments"][0]["id"]
        for path in ("/api/next", f"/api/media/{id}/0", "/api/standing", "/api/export"):
            for headers in ({}, bearer("nonsense"), {"Authorization": mine}):
                assert client.get(path, headers=headers).status_code == 401
        assert client.post("/api/events", json=[]).status_code == 401
        assert client.get("/api/standing", headers=bearer(mine)).status_code == 401
        assert client.get(f"/api/media/{id}/0", headers=bearer(other)).status_code == 404
        assert client.get(f"/api/media/{id}/9", headers=bearer(mine)).status_code == 404
        assert client.get("/static/..%2fdesk.py").status_code == 404
        reply = client.post("/api/events", headers=bearer(other), json=[said(id, "left", "not-mine-1")]).json()
        assert reply["receipts"][0] == {"key": "not-mine-1", "ok": False, "error": f"assignment {id}: not yours"}


def marked(*strokes):
    """Return a vote with strokes of a brush, as far as they differ from a spot in the middle."""
    spot = {"item": 0, "kind": "artifact", "r": 0.05, "points": [[0.5, 0.5]]}
    return {"choices": {"overall": "left"}, "marks": [spot | stroke for stroke in strokes]}


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({}, "choices: an object"),
        ({"choices": {"overall": True}}, "one of left"),
        ({"choices": {"overall": "left", "more": "left"}}, "and to nothing else"),
        ({"choices": {"overall": ["left"]}}, "one of left"),
        ({"choices": {"overall": "left"}, "marks": [{"item": 2}]}, "item: a whole number"),
        (marked({"points": [[2, 0]]}), "from 0 to 1"),
        (marked({"r": True}), "from 0 to 1"),
        (marked({"points": [[0.5]]}), "a list of"),
        (marked({"points": []}), "a list of"),
        (marked({"kind": "colour"}), "kind is one of artifact"),
        (marked(*[{"points": [[0.5, 0.5]] * 1001}] * 2), "at most 2000 points"),
        ({"choices": {"overall": "left"}, "strength": 4}, "strength: a whole number"),
        ({"choices": {"overall": "left"}, "text": "x" * 2001}, "at most 2000"),
    ],
)
def test_a_vote_of_another_form_is_refused_with_the_reason(tmp_path, payload, words):
    ledger = ledger_of(tmp_path, 2)
    me = ledger.who(ledger.invite(1)[0][1])
    [assignment] = ledger.next(me, 1)
    entry = said(assignment.id, "left", "odd-payload") | {"payload": payload}
    with pytest.raises(UserError, match=words):
        ledger.record(me, read_answer(entry))


async def patiently(request, *arguments, **named):
    """Ask again as the page does, if nobody answers, or a machine that is busy with all of them cut the connection."""
    for _ in range(2400):
        try:
            return await request(*arguments, **named)
        except httpx2.TransportError:
            await asyncio.sleep(0.1)
    raise AssertionError("no answer")


def test_a_thousand_annotators_at_once_lose_no_vote_and_see_no_pair_twice(tmp_path):
    ledger = ledger_of(tmp_path, 40, most=1000, sure=0.0, least=1000, repeat=0.0)
    tokens = [token for _, token in ledger.invite(1000)]

    async def annotate(client, token, seen, kept):
        rng = random.Random(token)
        reply = await patiently(client.get, "/api/next?count=2", headers=bearer(token))
        given = reply.json()["assignments"]
        seen += [(token, assignment["prompt"]) for assignment in given]
        keys = [f"{token[:20].replace('_', '-')}-{assignment['id']}" for assignment in given]
        events = [
            said(a["id"], rng.choice(["left", "right", "tie_good"]), key) for a, key in zip(given, keys, strict=True)
        ]
        for _ in range(rng.choice([1, 1, 2])):  # a browser that heard no answer sends again
            reply = await patiently(client.post, "/api/events", headers=bearer(token), json=events)
        assert [receipt["ok"] for receipt in reply.json()["receipts"]] == [True, True]
        kept += keys

    async def everybody(url):
        seen, kept = [], []
        limits = httpx2.Limits(max_connections=1000)
        async with httpx2.AsyncClient(base_url=url, limits=limits, timeout=120) as client:
            await asyncio.gather(*(annotate(client, token, seen, kept) for token in tokens))
        return seen, kept

    with hosted(ledger) as url:
        seen, kept = asyncio.run(everybody(url))
    assert len(set(seen)) == len(seen) == len(kept) == 2000
    again = Ledger(str(ledger.engine.url))
    assert set(again.board.keys) == set(kept) and len(list(again.votes())) == 2000
    votes = Counter(vote.task for vote in again.votes())
    assert max(votes.values()) - min(votes.values()) <= 2  # given out evenly
