"""The words language: its list, its split, its prompts and their noise, and how a tokenizer spells them."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from transformers import CLIPTokenizer

from limner.core.errors import UserError
from limner.models.clip import word_tokenizer
from limner.rewards.ocr.spelling import wanted_text
from limner.worlds.words.grammar import (
    CATEGORIES,
    NUM_NEAR,
    PHRASINGS,
    VOCABULARY,
    caption,
    is_heldout,
    near,
    noisy_caption,
    prompts,
    sample_word,
    to_prompt,
    words,
)

TRAIN, HELDOUT = words("train"), words("heldout")


def quoted(text: str) -> str:
    """The word between the quotation marks."""
    before, word, after = text.split('"')
    assert f'{before}"{{}}"{after}' in PHRASINGS
    return word


def test_the_list_is_sorted_common_and_in_capitals() -> None:
    listed = (resources.files("limner.worlds.words") / "words.txt").read_text().splitlines()
    assert listed == sorted(set(listed)) and len(listed) >= 500
    assert all(3 <= len(word) <= 5 and word.isascii() and word.isalpha() and word.isupper() for word in listed)
    assert sorted(TRAIN + HELDOUT) == listed


def test_the_split() -> None:
    assert set(TRAIN).isdisjoint(HELDOUT)
    assert len(HELDOUT) / len(TRAIN + HELDOUT) == pytest.approx(0.15, abs=0.02)
    assert all(is_heldout(word) for word in HELDOUT) and not any(is_heldout(word) for word in TRAIN)
    text = "\n".join(HELDOUT)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "0a6ceca340083248"
    unlisted = ["".join(letters) for letters in itertools.product("QXZJKVWY", repeat=4)]
    assert sum(map(is_heldout, unlisted)) / len(unlisted) == pytest.approx(0.15, abs=0.02)


def test_a_heldout_word_has_no_letter_where_train_lacks_it() -> None:
    def places(split: tuple[str, ...]) -> set[tuple[int, int, str]]:
        return {(len(word), place, letter) for word in split for place, letter in enumerate(word)}

    assert places(HELDOUT) <= places(TRAIN)


def test_prompts() -> None:
    assert caption("KITE") == 'a sign that says "KITE"'
    for split, chosen in (("train", TRAIN), ("heldout", HELDOUT)):
        once = prompts(split)
        assert [p.meta["text"] for p in once] == list(chosen)
        assert all(quoted(p.text) == p.meta["text"] == wanted_text(p) for p in once)
        assert set(Counter(p.meta["category"] for p in once)) == set(CATEGORIES)
        assert all(p.meta["category"] == f"{len(p.meta['text'])} letters" for p in once)
        phrased = Counter(p.text.replace(p.meta["text"], "{}") for p in once)
        assert set(phrased) == set(PHRASINGS) and max(phrased.values()) - min(phrased.values()) <= 1
        assert prompts(split, 7) == once[:7]
        most = prompts(split, len(PHRASINGS) * len(chosen))
        assert len({p.text for p in most}) == len(most) and most[: len(once)] == once
        json.dumps([dict(p.meta) for p in most])
    for count in (0, len(PHRASINGS) * len(HELDOUT) + 1):
        with pytest.raises(UserError, match=f"got count {count}"):
            prompts("heldout", count)


def test_sampled_words_are_balanced_and_keep_to_their_split() -> None:
    rng = np.random.default_rng(0)
    drawn = Counter(len(sample_word(rng)) for _ in range(3000))
    assert all(abs(drawn[length] - 1000) < 100 for length in (3, 4, 5))
    assert all(sample_word(rng, "heldout") in HELDOUT for _ in range(100))


def test_noise_has_the_stated_share_and_kinds_and_never_asks_for_a_heldout_word() -> None:
    rng = np.random.default_rng(0)
    drawn = [sample_word(rng) for _ in range(4000)]
    asked = [quoted(noisy_caption(word, rng, 0.5)) for word in drawn]
    assert not any(map(is_heldout, asked))
    wrong = [(word, other) for word, other in zip(drawn, asked, strict=True) if word != other]
    assert len(wrong) / 4000 == pytest.approx(0.5, abs=0.03)
    assert all(b in TRAIN for _, b in wrong)
    assert sum(b in near(a) for a, b in wrong) / len(wrong) == pytest.approx(0.7, abs=0.03)
    assert all(quoted(noisy_caption(word, rng, 0.0)) == word for word in drawn[:200])


def test_near_words_share_the_most_letters() -> None:
    def common(a: str, b: str) -> int:
        return sum(x == y for x, y in zip(a, b, strict=True))

    for word in ("KITE", "OWL", "TRAIN", HELDOUT[0]):
        chosen = near(word)
        others = [w for w in TRAIN if len(w) == len(word) and w not in chosen and w != word]
        assert len(set(chosen)) == NUM_NEAR and word not in chosen and set(chosen) <= set(TRAIN)
        assert min(common(word, w) for w in chosen) >= max(common(word, w) for w in others)


def test_a_quoted_word_is_spelt_a_token_a_letter(tmp_path: Path) -> None:
    """Words of the phrasings are whole, but not where they are quoted, nor inside another word; also once saved."""
    word_tokenizer(VOCABULARY.words, VOCABULARY.max_length, VOCABULARY.alone).save_pretrained(tmp_path)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)

    def tokens(text: str) -> list[str]:
        found = tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])
        return [token.replace("</w>", "") for token in found[1:-1]]

    assert tokens('a sign that says "KITE"') == ["a", "sign", "that", "says", '"', *"kite", '"']
    assert tokens('the word "SIGN"') == ["the", "word", '"', *"sign", '"'] and tokens('"SIDES"')[1:-1] == [*"sides"]
    texts = [caption(word, phrasing) for word in TRAIN + HELDOUT for phrasing in range(len(PHRASINGS))]
    lengths = [len(ids) for ids in tokenizer(texts)["input_ids"]]
    assert lengths == [len(text.split()) - 1 + 2 + len(quoted(text)) + 2 for text in texts]
    assert max(lengths) == VOCABULARY.max_length
    assert to_prompt("KITE", 4).text == 'the word "KITE"'
