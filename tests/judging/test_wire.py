import dataclasses
import json
import math
import sys
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor
from toy_clip import Clips, clips

from limner.core.errors import UserError
from limner.core.media import Images, Media, Videos
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.judging.rows import from_rows, to_rows
from limner.judging.spec import declare
from limner.judging.strict import Refused
from limner.judging.wire import (
    KINDS,
    LIMITS,
    Limits,
    canonical,
    decode_answer,
    decode_error,
    decode_request,
    encode_answer,
    encode_error,
    encode_request,
    identity,
)

PIXELS = torch.rand(3, 3, 5, 4, generator=torch.Generator().manual_seed(0))
PROMPTS = [Prompt("a", {"n": 1, "parts": [1.5, None, "x"]}), Prompt("é \ud800 \x00"), Prompt("")]
CONTENT: dict[str, Any] = {
    "protocol": "1",
    "media": "images",
    "items": [{"id": i, "text": "a", "meta": {}} for i in range(3)],
    "deadline_ms": None,
}
FRAMES = torch.arange(3 * 5 * 4 * 3, dtype=torch.uint8).view(3, 1, 5, 4, 3)


def blob(frames: Tensor = FRAMES, **changes: Any) -> bytes:
    return save({"frames": frames}, {"request": json.dumps(CONTENT | changes)})


def raw(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(**changes: Any) -> bytes:
    given = {"dtype": "U8", "shape": [3, 1, 5, 4, 3], "data_offsets": [0, 180]} | changes
    return raw({"__metadata__": {"request": json.dumps(CONTENT)}, "frames": given}, bytes(180))


def refusal(body: bytes, limits: Limits = LIMITS) -> Refused:
    with pytest.raises(Refused) as caught:
        decode_request(body, limits)
    return caught.value


def test_no_file_is_named_to_a_host_and_none_is_opened_for_a_request() -> None:
    """The path of a reference stays here; who names one to a host is refused, whether it is there or not."""
    prompts = [Prompt("a", {"reference": "right.webp", "n": 1}), Prompt("b", {"reference": "a cat"})]
    body = encode_request(Images(PIXELS[:2]), prompts, 1)
    assert [prompt.meta for prompt in decode_request(body, LIMITS).prompts] == [{"n": 1}, {"reference": "a cat"}]
    named = body.replace(b"a cat", b"c.mp4")
    assert len(named) == len(body)
    with pytest.raises(Refused, match="item 1: its reference names a file"):
        decode_request(named, LIMITS)


def test_a_request_arrives_as_an_in_process_judge_sees_it() -> None:
    media = Images(PIXELS * 1.4 - 0.2)
    got = decode_request(encode_request(media, PROMPTS, 2.5), LIMITS)
    assert torch.equal(got.media.pixels, media.rounded().pixels) and got.media.pixels.is_contiguous()
    assert got.media.pixels.dtype == torch.float32
    assert list(got.prompts) == PROMPTS and list(got.ids) == [0, 1, 2] and got.seconds == 2.5


def test_every_level_of_a_pixel_survives() -> None:
    levels = (torch.arange(256) / 255).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    assert torch.equal(decode_request(encode_request(Images(levels), [Prompt("")], 1), LIMITS).media.pixels, levels)


def test_the_format_is_the_documented_one() -> None:
    got = decode_request(blob(items=[{"id": f"s{i}", "text": "t", "meta": {"k": i}} for i in range(3)]), LIMITS)
    assert torch.equal(got.media.pixels[2, 1], FRAMES[2, 0, :, :, 1].float() / 255)
    assert list(got.ids) == ["s0", "s1", "s2"] and got.prompts[2] == Prompt("t", {"k": 2}) and got.seconds is None


@pytest.mark.parametrize("meta", [{"a": (1, 2)}, {1: 2}, {"a": math.nan}, {"a": object()}, {"a": b"x"}])
def test_a_meta_that_would_arrive_changed_is_not_sent(meta: dict[Any, Any]) -> None:
    with pytest.raises(UserError, match="a prompt's meta must hold JSON"):
        encode_request(Images(PIXELS[:1]), [Prompt("a", meta)], 1)


def test_what_cannot_be_shown_is_not_sent() -> None:
    with pytest.raises(ValueError, match="not finite"):
        encode_request(Images(PIXELS / 0), PROMPTS, 1)


def test_media_of_another_package_arrive_where_the_host_knows_their_kind() -> None:
    pixels = torch.rand(3, 5, 3, 4, 2, generator=torch.Generator().manual_seed(1)) * 1.2 - 0.1
    body = encode_request(Clips(pixels, fps=12.5), PROMPTS, 1)
    assert _content(body)["media"] == "clips" and _content(body)["facts"] == {"fps": 12.5}
    got = decode_request(body, LIMITS, {**KINDS, "clips": clips}).media
    assert isinstance(got, Clips) and got.fps == 12.5
    assert torch.equal(got.frames(), Clips(pixels, 12.5).rounded().frames()) and got.pixels.is_contiguous()
    assert "this host judges media images" in str(refusal(body))
    with pytest.raises(Refused, match="clips have one fact, fps, a positive number, got {'fps': -1}"):
        decode_request(blob(media="clips", facts={"fps": -1}), LIMITS, {"clips": clips})
    with pytest.raises(UserError, match="must hold JSON"):
        encode_request(Clips(pixels, fps=math.nan), PROMPTS, 1)


def test_pictures_are_asked_about_as_before_there_were_facts() -> None:
    """An old host answers a new client, and an old client a new host: `blob` has no facts either."""
    assert _content(encode_request(Images(PIXELS), PROMPTS, 1)).keys() == CONTENT.keys()
    assert isinstance(decode_request(blob(), LIMITS).media, Images)


def _content(body: bytes) -> dict[str, Any]:
    size = int.from_bytes(body[:8], "little")
    return json.loads(json.loads(body[8 : 8 + size])["__metadata__"]["request"])


def test_canonical_text_has_one_form() -> None:
    assert canonical({"b": 1, "a": "é"}) == canonical({"a": "é", "b": 1}) == r'{"a":"\u00e9","b":1}'


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "no safetensors blob"),
        (b"\xff" * 8, "no safetensors blob"),
        (blob()[:40], "no safetensors blob"),
        (blob()[:-1], "no safetensors blob"),
        (blob() + b"\0", "no safetensors blob"),
        (raw(b"{x"), "no JSON"),
        (raw(b"[" * 100_000), "no JSON"),
        (raw(b"\xff\xfe{}"), "no JSON"),
        (raw([]), "the header must have the keys __metadata__, frames"),
        (raw({"frames": {}}), "the header must have"),
        (entry(data_offsets=[0, 179]), "no safetensors blob"),
        (entry(data_offsets=[10, 190]), "no safetensors blob"),
        (entry(data_offsets="a"), "no safetensors blob"),
        (entry(dtype="F32"), "`frames` must be uint8"),
        (entry(dtype="F4", shape=[]), "`frames` must be uint8"),
        (entry(shape=[3, 1, 5, 12]), "`frames` must be uint8"),
        (entry(shape=[3, 1, 5, 3, 4]), "`frames` must be uint8"),
        (entry(shape=[3, 1, 0, 4, 3]), "`frames` must not be empty"),
        (entry(shape=[-3, 1, -5, 4, 3]), "`frames` must not be empty"),
        (entry(shape=[3, 1, 5.0, 4, 3]), "`frames` must not be empty"),
        (entry(shape=[3, True, 5, 4, 3]), "`frames` must not be empty"),
        (entry(path="a"), "the tensor `frames` must have the keys"),
        (blob(protocol="2"), "this host speaks protocol '1'"),
        (blob(protocol=1), "this host speaks protocol '1'"),
        (blob(media="voxels"), "judges media images, videos, with facts in an object, got 'voxels'"),
        (blob(media="os:system"), "judges media images, videos, with facts in an object, got 'os:system'"),
        (blob(media=["images"]), "something else where a text belongs"),
        (blob(facts=[1]), "judges media images, videos, with facts in an object"),
        (blob(facts={"fps": 2}), "pictures have one frame each and no facts, got 1 frames and ['fps']"),
        (blob(FRAMES.view(3, 5, 1, 4, 3)), "pictures have one frame each and no facts, got 5 frames"),
        (blob(url="http://127.0.0.1/a.png"), "the request must have the keys"),
        (blob(items=CONTENT["items"][:2]), "3 samples need as many items"),
        (blob(items={}), "3 samples need as many items"),
        (blob(items=[1, 2, 3]), "item 0 must have the keys id, text, meta"),
        (blob(items=[{"id": 0, "text": "a", "meta": {}, "path": "/etc/passwd"}] * 3), "item 0 must have the keys"),
        (blob(items=[{"id": 0, "text": "a", "meta": {}}] * 3), "an id stands twice"),
        (blob(items=[{"id": None, "text": "a", "meta": {}}] * 3), "its id must be a number or a short string"),
        (blob(items=[{"id": "i" * 101, "text": "a", "meta": {}}] * 3), "its id must be"),
        (blob(items=[{"id": 0, "text": 1, "meta": {}}] * 3), "`text` must be a string"),
        (blob(items=[{"id": 0, "text": "a", "meta": []}] * 3), "`meta` an object"),
        (blob(items=[{"id": i, "text": "a", "meta": {"x": math.nan}} for i in range(3)]), "NaN is no JSON"),
        (blob(deadline_ms=-5), "a deadline is 0 ms or more"),
        (blob(deadline_ms="1"), "something else where a number belongs"),
        (blob(deadline_ms=True), "something else where a number belongs"),
    ],
)
def test_what_is_malformed_is_refused(body: bytes, says: str) -> None:
    refused = refusal(body)
    assert (refused.status, refused.code) == (400, "malformed") and says in str(refused)


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (Limits(header_bytes=50), "header_too_large"),
        (Limits(pixels=59), "too_many_pixels"),
        (Limits(samples=2), "too_many_pixels"),
        (Limits(prompt_chars=0), "prompt_too_long"),
    ],
)
def test_what_is_over_a_limit_is_refused(limits: Limits, code: str) -> None:
    refused = refusal(blob(), limits)
    assert (refused.status, refused.code) == (413, code)
    assert len(decode_request(blob(), Limits(pixels=60, samples=3, prompt_chars=1)).ids) == 3


def test_a_shape_beyond_all_numbers_is_refused_before_it_is_made() -> None:
    assert refusal(entry(shape=[3, 1, 2**62, 2**62, 3])).code == "too_many_pixels"


def full(batch: int = 3) -> RewardOutput:
    """An answer with everything in it, and numbers that are not finite in all places."""
    return RewardOutput(
        torch.tensor([1 / 3, math.inf, -2e-38]),
        torch.tensor([True, True, True]),
        {"b": torch.tensor([0.1, 0.2, math.nan]), "a": torch.tensor([1.0, 2.0, 3.0])},
        torch.tensor([0.5, math.inf, 0.25]),
        ["because <b>", None, ""],
        {"where": torch.tensor([[[0.1, 0.2]], [[math.nan, 1.0]], [[3.0, 4.0]]])},
    )


def test_an_answer_travels_whole_and_only_finite_numbers_do() -> None:
    request = decode_request(encode_request(Images(PIXELS), PROMPTS, 1), LIMITS)
    body = encode_answer(request, full(), "mine", "abc", {"batch": 3})
    answer = decode_answer(body, 3)
    assert (answer.name, answer.identity) == ("mine", "abc") and b"NaN" not in body and b"Infinity" not in body
    got, sent = from_rows(answer.rows), full()
    assert got.valid.tolist() == [True, False, True]
    assert got.score[0] == sent.score[0] and got.score[1].isnan() and got.score[2] == sent.score[2]
    assert list(got.components) == ["b", "a"] and torch.equal(got.components["a"], sent.components["a"])
    assert torch.equal(got.components["b"][:2], sent.components["b"][:2]) and got.components["b"][2].isnan()
    assert got.uncertainty is not None and got.uncertainty[1].isnan() and got.uncertainty[2] == 0.25
    assert got.explanation == ("because <b>", None, "")
    assert got.maps["where"].shape == (3, 1, 2) and got.maps["where"][1, 0, 0].isnan()
    assert torch.equal(got.maps["where"][::2], sent.maps["where"][::2])
    item = json.loads(body)["items"][1]
    assert item["ok"] is False and "score" not in item and item["components"] == {"b": 0.20000000298023224, "a": 2.0}
    assert item["error"] == {
        "code": "not_judged",
        "message": "the judge could not judge this sample",
        "retryable": False,
    }


def test_every_number_survives() -> None:
    bits = torch.randint(-(2**63), 2**63 - 1, (5000,), generator=torch.Generator().manual_seed(0))
    bits[:9] = torch.arange(0x7FF0_0000_0000_0000 - 4, 0x7FF0_0000_0000_0000 + 5)  # the largest, infinity, NaN
    score = bits.view(torch.float64)
    output = from_rows(json.loads(json.dumps(to_rows(RewardOutput(score, torch.ones(5000, dtype=torch.bool))))))
    assert torch.equal(output.valid, score.isfinite()) and output.score.isnan().equal(~score.isfinite())
    assert torch.equal(output.score[output.valid].view(torch.int64), bits[output.valid])


def test_parts_that_some_samples_lack_are_not_a_number_there() -> None:
    rows = [{"ok": True, "score": 1, "components": {"a": 2}}, {"ok": False}, {"ok": True, "score": 3.0, "maps": {}}]
    output = from_rows(rows)
    assert output.score.tolist()[::2] == [1.0, 3.0] and output.components["a"].isnan().tolist() == [False, True, True]
    assert output.uncertainty is None and output.explanation == () and output.maps == {}
    assert len(from_rows([]).score) == 0


ITEMS: list[dict[str, Any]] = [{"id": i, "ok": True, "score": float(i)} for i in range(3)]


def test_an_answer_that_says_two_things_of_one_is_not_believed() -> None:
    body = answer().replace(b'"score":', b'"score": 1.0, "score":', 1)
    assert body != answer()
    with pytest.raises(Refused, match="no JSON"):
        decode_answer(body, 3)


def answer(**changes: Any) -> bytes:
    return json.dumps(
        {"protocol": "1", "reward": {"name": "n", "identity": "i"}, "items": ITEMS, "server": {}} | changes
    ).encode()


def one(**changes: Any) -> bytes:
    return answer(items=[ITEMS[0] | changes, *ITEMS[1:]])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"null",
        b"[" * 100_000,
        answer(protocol="2"),
        answer(reward=None),
        answer(reward={"name": "n"}),
        answer(reward={"name": "n", "identity": 3}),
        answer(items=None),
        answer(items=ITEMS[:2]),
        answer(items=[*ITEMS, ITEMS[0]]),
        answer(items=[ITEMS[1], ITEMS[0], ITEMS[2]]),
        answer(items=[1, 2, 3]),
        one(id="0"),
        one(id=False),
        one(id=0.0),
        one(components={str(i): 1 for i in range(300_000)}),
        one(components={"x" * 201: 1}),
        one(maps={str(i): [[1]] for i in range(257)}),
        one(explanation="x" * 10_001),
        one(score="1"),
        one(score=True),
        one(score=[1]),
        one(score=math.nan),
        one(score=math.inf),
        one(components=[1]),
        one(components={"a": "1"}),
        one(uncertainty={}),
        one(explanation=3),
        one(maps={"a": 1}),
        one(maps={"a": [[1], [1, 2]]}),
        one(maps={"a": [1, 2]}),
        one(maps={"a": [1, [2]]}),
        one(maps={"a": [["x"]]}),
        one(maps={"a": [[[1]]]}),
        one(components={"a": [1]}),
        answer(items=[item | {"components": {"a": [1]}} for item in ITEMS]),
        answer(items=[item | {"uncertainty": [1]} for item in ITEMS]),
    ],
)
def test_an_answer_that_is_not_about_these_samples_is_not_believed(body: bytes) -> None:
    with pytest.raises(Refused):
        decode_answer(body, 3)


@pytest.mark.parametrize("score", [b"1e999", b"1e309", b"-1e999", b"null", b"1" + b"0" * 400])
def test_a_score_beyond_float64_is_not_judged(score: bytes) -> None:
    output = from_rows(decode_answer(one(score=123).replace(b"123", score), 3).rows)
    assert output.valid.tolist() == [False, True, True] and output.score[0].isnan()


@pytest.mark.parametrize("ok", [1, "true", None, "yes"])
def test_only_true_is_true(ok: Any) -> None:
    assert from_rows(decode_answer(one(ok=ok), 3).rows).valid.tolist() == [False, True, True]


def test_a_refusal_is_short_and_printable() -> None:
    assert decode_error(encode_error("busy", "come again")) == "come again"
    assert decode_error(b"<html>\n\x1b[31m" + b"x" * 1000) == ("<html>  [31m" + "x" * 288)
    deep = sys.getrecursionlimit() - 60
    for nested in (b"[" * deep + b"]" * deep, b"[" * 100_000):
        assert len(decode_error(b'{"error": {"message": ' + nested + b"}}")) == 300
    assert decode_error(b'{"error": 3}') == '{"error": 3}' and len(decode_error(encode_error("a", "b" * 1000))) == 300


@dataclasses.dataclass(frozen=True)
class Setting:
    strength: float = 1.0
    mode: str = "a"

    @property
    def spec(self) -> RewardSpec:
        return RewardSpec("setting", "with settings", version="3")

    def __call__(self, media: Media, prompts: Any) -> Tensor:
        return torch.zeros(len(media))


def test_identity_tells_apart_name_version_and_settings() -> None:
    def plain(version: str, name: str = "plain") -> Any:
        return declare(RewardSpec(name, "text", version=version))(lambda media, prompts: torch.zeros(len(media)))

    def other(media: Media, prompts: Any) -> Tensor:
        return torch.zeros(len(media))

    made = [Setting(), Setting(strength=2.0), Setting(mode="b"), plain("1"), plain("2"), plain("1", "q"), other, answer]
    names = [identity("label", reward) for reward in made]
    assert len(set(names)) == len(made) and all(len(name) == 32 for name in names)
    assert identity("label", Setting()) == names[0] == identity("other label", Setting())
    assert identity("label", other) == names[6] != identity("other label", other)


def test_clips_arrive_as_they_were_sent() -> None:
    sent = Videos(torch.rand(2, 3, 3, 4, 5, generator=torch.Generator().manual_seed(0)), fps=12.5)
    body = encode_request(sent, [Prompt("a"), Prompt("b")], 1.0)
    got = decode_request(body, LIMITS).media
    assert isinstance(got, Videos) and got.fps == 12.5 and torch.equal(got.values, sent.rounded().values)
    for fact in ({}, {"fps": "8"}, {"fps": True}, {"fps": -1}, {"fps": 8, "sound": 1}):
        with pytest.raises(UserError, match="fps"):
            KINDS["videos"](sent.rounded().values, fact)
