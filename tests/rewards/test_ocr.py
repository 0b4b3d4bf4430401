"""The OCR reward: its distances by hand and by brute force, genuine readings, and what must not pay."""

from __future__ import annotations

import functools
import itertools
import runpy
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata, util

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from limner.core.errors import JudgeFailure, UserError
from limner.core.media import Images
from limner.core.types import Prompt
from limner.judging.checked import Checked
from limner.rewards.ocr import OCR, engine, reward
from limner.rewards.ocr.engine import read_lines
from limner.rewards.ocr.spelling import compare, edit_distance, normalised, wanted_text

installed = pytest.mark.skipif(
    any(util.find_spec(name) is None for name in ("rapidocr", "onnxruntime")), reason="the extra `ocr` is not installed"
)
KITE = Prompt('a sign that says "KITE"')


def page(*lines: str, size: int = 16, side: int = 96) -> torch.Tensor:
    """Return a white picture `[3, side, side]` with dark lines of text."""
    picture = Image.new("RGB", (side, side), (240, 240, 235))
    for i, line in enumerate(lines):
        place = (side // 8, side // 8 + i * 2 * size)
        ImageDraw.Draw(picture).text(place, line, fill=(20, 20, 60), font=ImageFont.load_default(size))
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255


@functools.cache
def slow_distance(a: str, b: str, substitution: int) -> int:
    """The definition: the least over what may happen to the first letters."""
    if not a or not b:
        return len(a) + len(b)
    first = slow_distance(a[1:], b[1:], substitution) + (0 if a[0] == b[0] else substitution)
    return min(first, slow_distance(a[1:], b, substitution) + 1, slow_distance(a, b[1:], substitution) + 1)


def subsequences(text: str) -> set[str]:
    return {"".join(part) for size in range(len(text) + 1) for part in itertools.combinations(text, size)}


def test_the_edit_distance() -> None:
    assert edit_distance("KITTEN", "SITTING") == 3
    assert edit_distance("", "ABC") == edit_distance("ABC", "") == 3
    texts = ["".join(letters) for size in range(4) for letters in itertools.product("AB", repeat=size)] + ["CABAC"]
    for a, b in itertools.product(texts, texts):
        for substitution in (1, 2):
            assert edit_distance(a, b, substitution) == slow_distance(a, b, substitution)


@pytest.mark.parametrize(
    ("read", "similarity", "recall", "precision"),
    [
        ("KITE", 1.0, 1.0, 1.0),
        ("", 0.0, 0.0, 0.0),
        ("KIT", 0.75, 0.75, 1.0),
        ("KTE", 0.75, 0.75, 1.0),
        ("KITES", 0.8, 1.0, 0.8),
        ("BITE", 0.75, 0.75, 0.75),
        ("KITEKITE", 0.5, 1.0, 0.5),
        ("KITEANDSTORM", 1 / 3, 1.0, 1 / 3),
        ("XYZ", 0.0, 0.0, 0.0),
        ("ETIK", 0.0, 0.25, 0.25),
    ],
)
def test_a_reading_by_hand(read: str, similarity: float, recall: float, precision: float) -> None:
    marks = compare(read, "KITE")
    expected = [similarity, float(read == "KITE"), recall, precision, len(read)]
    assert list(marks.values()) == pytest.approx(expected)
    assert list(marks) == ["similarity", "exact", "recall", "precision", "read_length"]


def test_similarity_is_never_above_recall_or_precision_and_1_for_the_word_alone() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        read, wanted = ("".join(rng.choice([*"ABC"], int(rng.integers(low, 6)))) for low in (0, 1))
        marks = compare(read, wanted)
        common = max(map(len, subsequences(read) & subsequences(wanted)))
        assert marks["recall"] == pytest.approx(common / len(wanted))
        assert marks["precision"] == pytest.approx(common / len(read) if read else 0.0)
        assert 0 <= marks["similarity"] <= min(marks["recall"], marks["precision"]) + 1e-12
        assert (marks["similarity"] == 1) == (read == wanted) == (marks["exact"] == 1)


def test_what_is_wanted() -> None:
    assert wanted_text(KITE) == "KITE"
    assert wanted_text(Prompt("a card: “Hello, world!”")) == "HELLOWORLD"
    assert wanted_text(Prompt('"ONE" above "TWO"')) == "ONETWO"
    assert wanted_text(Prompt('a sign that says "KITE"', {"text": "storm 7"})) == "STORM7"
    assert wanted_text(Prompt("a sign")) == wanted_text(Prompt('a sign: "?!"')) == ""
    assert normalised(" a-b\n\uff23\u00e9 9!") == "ABC\u00c99"


QUOTED = {
    "ein Schild „OFFEN“": "OFFEN",
    "ett ”ÖPPET” skylt": "ÖPPET",
    "une affiche « BIENVENUE »": "BIENVENUE",
    "et skilt »ÅBEN«, et ‹Ord› og ›nok‹": "ÅBENORDNOK",
    "看板「営業中」と『準備』と｢小｣と〝大〟": "営業中準備小大",
    '写着"66"和“开放”的牌子': "66开放",
    "＂WIDE＂ or ﹁直﹂": "WIDE直",
    '「他说"你好"」': "他说你好",
    "a sign that says 'KITE'": "KITE",
    "'DON'T STOP' on a wall": "DONTSTOP",
    "‘开放’的牌子, a ‘NO ENTRY’ sign": "开放NOENTRY",
    "the dog's \"KITE\", isn't it": "KITE",
    "\"She said 'HI'\"": "SHESAIDHI",
    'a sign "ROUTE 66" and a sign "OPEN"': "ROUTE66OPEN",
    'saying"KITE"now': "KITE",
}
INCHES = {
    'a 5" nail and a sign "OPEN"': "OPEN",
    'a 5" x 7" card reading "HI"': "HI",
    "a 5” nail and “OPEN”": "OPEN",
    '5\'10" tall, with "HI"': "HI",
    '"ROUTE 66" and a 5" pipe': "ROUTE66",
    'a label "a 5" pipe" there': "A5PIPE",
    'a 12″ record, 7" and 9" plates': "",
}
APOSTROPHES = {text: "" for text in ("a dog's bone", "the dogs' bowl and the cats' bowl", "the '80s style of the '90s")}


@pytest.mark.parametrize(("text", "wanted"), (QUOTED | INCHES | APOSTROPHES).items())
def test_quotation_marks_of_all_kinds_and_what_is_none(text: str, wanted: str) -> None:
    assert wanted_text(Prompt(text)) == wanted


@installed
def test_it_reads() -> None:
    pictures = Images(torch.stack([page("KITE"), page("kite"), page("KITES"), page(), page("Storm")]))
    output = OCR()(pictures, [KITE] * 5)
    assert output.explanation == ["KITE", "kite", "KITES", "", "Storm"]
    assert output.valid.all() and output.score.tolist() == pytest.approx([1.0, 1.0, 0.8, 0.0, 0.0])
    assert output.components["read_length"].tolist() == [4, 4, 5, 0, 5]
    exact = OCR(metric="exact")(pictures, [KITE] * 5)
    assert exact.score.tolist() == output.components["exact"].tolist() == [1, 1, 0, 0, 0]
    assert set(output.components) == set(OCR().spec.components)


@installed
@pytest.mark.parametrize("lines", [("KITE", "KITE"), ("KITE", "SALE"), ("BIG KITE",), ("KITE KITE",)])
def test_more_text_than_is_wanted_does_not_pay(lines: tuple[str, ...]) -> None:
    output = OCR()(Images(page(*lines, size=14)[None]), [KITE])
    assert output.score.item() <= 0.6 and output.components["exact"].item() == 0
    assert output.components["recall"].item() == 1 and output.components["precision"].item() <= 0.6


@installed
def test_a_large_picture_is_read_too() -> None:
    (line,) = read_lines((page("KITE", size=160, side=1000).permute(1, 2, 0) * 255).byte().numpy())
    assert line.text == "KITE"


@installed
def test_the_map_says_where_the_wanted_text_stands() -> None:
    """KITE is written in the picture's second eighth of rows, SALE in its fourth; nothing below."""
    output = OCR()(Images(page("KITE", "SALE", size=14)[None]), [KITE])
    (rows,) = output.maps["text"].mean(2) / output.maps["text"].shape[2]
    assert output.maps["text"].shape == (1, 32, 32) and output.maps.keys() == OCR().spec.maps.keys()
    good, bad = rows[:9], rows[12:19]
    assert good.max() > 0 and good.min() >= 0 and bad.min() < 0 and bad.max() <= 0 and rows[22:].eq(0).all()
    assert output.maps["text"].max() == pytest.approx(1) and output.maps["text"].min() == pytest.approx(-0.5)


@installed
def test_what_cannot_be_judged_is_invalid() -> None:
    broken = page("KITE")
    broken[0, 0, 0] = torch.nan
    prompts = [KITE, Prompt("a kite"), KITE]
    output = OCR()(Images(torch.stack([page("KITE"), page("KITE"), broken])), prompts)
    assert output.valid.tolist() == [True, False, False]
    assert output.score[0] == 1 and output.score[1:].isnan().all()
    assert all(column[1:].isnan().all() for column in output.components.values())
    assert output.explanation == ["KITE", None, None]


@installed
def test_several_frames_are_averaged() -> None:
    @dataclass(frozen=True)
    class Clip:
        def frames(self) -> torch.Tensor:
            return torch.stack([page("KITE"), page("KIT")])[None]

        def __len__(self) -> int:
            return 1

    output = OCR()(Clip(), [KITE])
    assert output.score.tolist() == [pytest.approx((1 + 0.75) / 2)] and output.explanation == ["KITE | KIT"]


@installed
def test_an_engine_that_fails_gives_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(thread: int) -> Callable[[object], object]:
        def read(picture: object) -> object:
            raise ValueError("no session")

        return read

    monkeypatch.setattr(engine, "_engine", broken)
    media = Images(page("KITE")[None])
    with pytest.raises(JudgeFailure, match="ValueError: no session"):
        OCR()(media, [KITE])
    assert not Checked("ocr", OCR())(media, [KITE]).valid.any()


@installed
@pytest.mark.parametrize("threads", [1, 3])
def test_as_many_pictures_are_read_at_once_as_torch_has_threads(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by a silent engine of its thread, which has one; in order, whoever is ready first."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    engine._readers.cache_clear()
    engine._engine.cache_clear()
    words = ["KITE", "SALE", "", "OPEN", "BIG"] * 3
    output = OCR()(Images(torch.stack([page(word) for word in words])), [KITE] * len(words))
    assert output.explanation == words
    assert engine._engine.cache_info().misses == threads
    assert read_lines((page("KITE").permute(1, 2, 0) * 255).byte().numpy())[0].text == "KITE"
    made = engine._engine(threading.get_ident())
    for part in (made.text_det, made.text_rec):
        assert part.session.session.get_session_options().intra_op_num_threads == 1


@installed
def test_the_engine_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    engine._engine.cache_clear()
    OCR()(Images(torch.stack([page("KITE"), page()])), [KITE] * 2)
    assert capfd.readouterr() == ("", "")


@installed
def test_it_describes_itself() -> None:
    spec = OCR().spec
    assert (spec.name, spec.low, spec.high, spec.needs) == ("ocr", 0.0, 1.0, ("prompt",))
    assert metadata.version("rapidocr") in spec.version


@installed
def test_more_than_a_picture_holds_is_refused() -> None:
    with pytest.raises(UserError, match="wants 1001 letters and digits, of which a picture holds 1000"):
        OCR()(Images(torch.rand(1, 3, 8, 8)), [Prompt("x", {"text": "a" * 1001})])


def test_settings_and_missing_packages_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="unknown metric 'exakt'; did you mean 'exact'"):
        OCR(metric="exakt")
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'limner\[ocr\]'"):
        OCR()


def test_the_module_imports_without_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert runpy.run_path(reward.__file__)["compare"]("KITE", "KITE")["similarity"] == 1
