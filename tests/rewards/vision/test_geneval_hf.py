"""GenEval's rules on things placed by hand; the segmentation on a network whose answers are planted."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import Mask2FormerForUniversalSegmentation

import tiny_vision
from limner.core.errors import UserError
from limner.core.media import Images
from limner.core.types import Prompt
from limner.rewards.vision import geneval_hf
from limner.rewards.vision.geneval import judge, relations
from limner.rewards.vision.geneval_hf import GenEvalHF
from limner.rewards.vision.segment import Instance, instances

LABELS = {0: "cat", 1: "dog", 2: "tvmonitor"}


def thing(label: str, x: float, y: float, colour: str = "", size: float = 10) -> Instance:
    """Return an instance centred at x, y; its colour is kept in its label for `colour_of`."""
    mask = torch.zeros(1, 1, dtype=torch.bool)
    return Instance(f"{label}:{colour}", 0.95, (x - size / 2, y - size / 2, x + size / 2, y + size / 2), mask)


def colour_of(found: Instance, name: str) -> str:
    return found.label.split(":")[1]


def entry(name: str, count: int = 1, **more: Any) -> dict[str, Any]:
    return {"class": name, "count": count, **more}


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (20, 50, {"left of"}),
        (80, 50, {"right of"}),
        (50, 20, {"above"}),
        (50, 80, {"below"}),
        (20, 20, {"left of", "above"}),
        (51.9, 50, set()),  # nearer than a tenth of both sizes: 0.1 (10 + 10) = 2
        (52.1, 50, set()),  # what is left, 0.1 of 2.1, is less than half
        (54.1, 50, {"right of"}),  # 2.1 of 4.1 is more than half
        (53.9, 50, set()),  # 1.9 of 3.9 is less
    ],
)
def test_relations_by_hand(x: float, y: float, expected: set[str]) -> None:
    assert relations(thing("a", x, y), thing("b", 50, 50)) == expected


CAT, DOG = thing("cat", 20, 50, "red"), thing("dog", 80, 50, "blue")
CASES = {
    "there": ([entry("cat")], [CAT], [], False, (1, 1, 1, 1, 1)),
    "missing": ([entry("dog")], [CAT], [], False, (0, 0, 0, 1, 1)),
    "too many, officially fine": ([entry("cat")], [CAT, CAT], [], False, (1, 1, 1, 1, 1)),
    "too many, strictly wrong": ([entry("cat")], [CAT, CAT], [], True, (0, 0, 0, 1, 1)),
    "colour": ([entry("cat", color="red")], [CAT], [], False, (1, 1, 1, 1, 1)),
    "one of two wrong": (
        [entry("cat", 2, color="red")], [CAT, thing("cat", 5, 5, "green")], [], False, (0, 0.5, 1, 0, 1),
    ),
    "only the surest count": ([entry("cat", color="red")], [CAT, thing("cat", 5, 5, "green")], [], False, (1,) * 5),
    "no colour without enough": ([entry("cat", 2, color="red")], [CAT], [], False, (0, 0, 0, 0, 1)),
    "position": ([entry("cat"), entry("dog", position=["right of", 0])], [CAT], [DOG], False, (1,) * 5),
    "wrong side": ([entry("cat"), entry("dog", position=["left of", 0])], [CAT], [DOG], False, (0, 2 / 3, 1, 1, 0)),
    "failed target": (
        [entry("cat", color="blue"), entry("dog", position=["right of", 0])], [CAT], [DOG], False, (0, 0.5, 1, 0, 0),
    ),
}  # fmt: skip
"""What is wanted, cats, dogs, strict, and: correct, fraction, count, colour, position."""


@pytest.mark.parametrize("name", CASES)
def test_rules_by_hand(name: str) -> None:
    include, cats, dogs, strict, expected = CASES[name]
    assert judge({"cat": cats, "dog": dogs}, {"include": include}, colour_of, strict) == pytest.approx(expected)


def test_what_is_excluded_must_be_fewer() -> None:
    meta = {"include": [entry("cat")], "exclude": [entry("cat", 2)]}
    assert judge({"cat": [CAT]}, meta, colour_of, False)[0] == 1
    assert judge({"cat": [CAT, CAT]}, meta, colour_of, False) == pytest.approx((0, 0.5, 0.5, 1, 1))


def planted(wide: bool = False) -> Any:
    """Return a network that sees a cat in the left half, a dog in the top right quarter, and nothing else."""

    def forward(pixel_values: torch.Tensor) -> SimpleNamespace:
        rows, columns = (edge // 4 for edge in pixel_values.shape[-2:])
        masks = torch.full((1, 3, rows, columns), -4.0)
        used = columns if not wide else columns * 48 // 64  # the rest is padding
        masks[0, 0, :, : used // 2] = 4.0
        masks[0, 1, : rows // 2, used // 2 : used] = 4.0
        classes = torch.tensor([[[9.0, 0, 0, 0], [0, 6.0, 0, 0], [0, 0, 0, 9.0]]])
        return SimpleNamespace(class_queries_logits=classes, masks_queries_logits=masks)

    forward.config = SimpleNamespace(id2label=LABELS)  # type: ignore[attr-defined]
    return forward


def test_instances_have_class_score_box_and_mask() -> None:
    found = [i for i in instances(planted(), torch.zeros(3, 32, 32), 64) if i.score > 0.3]
    assert [i.label for i in found] == ["cat", "dog"]
    cat = torch.tensor([9.0, 0, 0, 0]).softmax(0)[0] * torch.tensor(4.0).sigmoid()
    assert found[0].score == pytest.approx(cat.item(), rel=0.02)  # its mask falls off at the border
    assert found[0].box == (0, 0, 16, 32) and found[1].box == (16, 0, 32, 16)
    assert found[0].mask[:, :16].all() and not found[0].mask[:, 16:].any()


def test_padding_to_multiples_of_32_is_cut_off_again() -> None:
    """48 x 64 pixels stay so, and are padded to 64 x 64... seen sideways: columns 48 of 64 are picture."""
    found = [i for i in instances(planted(wide=True), torch.zeros(3, 64, 48), 48) if i.score > 0.3]
    assert [i.box for i in found] == [(0, 0, 24, 64), (24, 0, 48, 32)]


def test_scores_are_those_of_transformers_processor(tmp_path: Path) -> None:
    """Query scores of a random network against its own outputs, put together here."""
    model = tiny_vision.mask2former(tmp_path, LABELS)
    picture = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = instances(Mask2FormerForUniversalSegmentation.from_pretrained(tmp_path).eval(), picture, 64)
    from limner.rewards.vision.preprocess import IMAGENET, normalised

    with torch.no_grad():
        output = model(pixel_values=normalised(picture[None], IMAGENET))
    masks = torch.nn.functional.interpolate(output.masks_queries_logits, (64, 64), mode="bilinear")[0]
    classes = output.class_queries_logits[0].softmax(1)[:, :3]
    expected = sorted(
        (classes[q, c].item() * masks[q][masks[q] > 0].sigmoid().mean().item(), LABELS[c])
        for q in range(6)
        if (masks[q] > 0).any()
        for c in range(3)
    )[::-1]
    assert [i.score for i in found] == pytest.approx([score for score, _ in expected], rel=1e-4)
    assert [i.label for i in found] == [label for _, label in expected]


def test_the_whole_reward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted detector and a planted colour: what the prompt asks decides, and who asks nothing is not judged."""
    loaded = planted()
    loaded.to = lambda device: loaded
    monkeypatch.setattr(geneval_hf, "pretrained", lambda reward, kind, path: loaded)
    monkeypatch.setattr(GenEvalHF, "_colour", lambda self, frame, found, name: "red" if name == "cat" else "blue")
    wants = [
        {"tag": "position", "include": [entry("cat"), entry("dog", position=["right of", 0])]},
        {"tag": "colors", "include": [entry("cat", color="blue")]},
        {"tag": "counting", "include": [entry("dog")]},
        {"tag": "single_object", "include": [entry("tv")]},
        {},
    ]
    prompts = [Prompt(str(meta), meta) for meta in wants]
    output = GenEvalHF(resize=32)(Images(torch.rand(5, 3, 32, 32)), prompts)
    assert output.score[:4].tolist() == [1, 0, 1, 0] and output.score[4].isnan()
    assert output.valid.tolist() == [True] * 4 + [False]
    assert output.components["colour"][:4].tolist() == [1, 0, 1, 1]
    with pytest.raises(UserError, match="the model knows no class 'dogg'; did you mean 'dog'"):
        GenEvalHF(resize=32)(Images(torch.rand(1, 3, 32, 32)), [Prompt("a", {"include": [entry("dogg")]})])


def test_counting_is_surer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dog's mask is less sure when its logits are lower: found for other tasks, not for counting."""
    loaded = planted()

    def unsure(pixel_values: torch.Tensor) -> SimpleNamespace:
        output = loaded(pixel_values=pixel_values)
        return SimpleNamespace(
            class_queries_logits=output.class_queries_logits, masks_queries_logits=output.masks_queries_logits / 4
        )

    unsure.config, unsure.to = loaded.config, lambda device: unsure  # type: ignore[attr-defined]
    monkeypatch.setattr(geneval_hf, "pretrained", lambda reward, kind, path: unsure)
    prompts = [Prompt(tag, {"tag": tag, "include": [entry("cat")]}) for tag in ("single_object", "counting")]
    assert GenEvalHF(resize=32)(Images(torch.rand(2, 3, 32, 32)), prompts).score.tolist() == [1, 0]


def test_the_colour_is_the_one_whose_texts_are_nearest(tmp_path: Path) -> None:
    """Against transformers' forward pass on the picture with all but the thing hidden, cut to its box."""
    model = tiny_vision.clip(tmp_path)
    from transformers import PreTrainedTokenizerFast

    from limner.rewards.vision.preprocess import Preprocess

    picture = torch.rand(3, 24, 24, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(24, 24, dtype=torch.bool)
    mask[4:20, 6:18] = True
    mask[4:8, 6:9] = False
    seen = GenEvalHF(colours=str(tmp_path))._colour(picture, Instance("cat", 1.0, (6, 4, 18, 20), mask), "cat")
    alone = torch.where(mask, picture, torch.tensor(0.6))[None, :, 4:20, 6:18]
    tokenizer, scores = PreTrainedTokenizerFast.from_pretrained(tmp_path), []
    for colour in geneval_hf.COLOURS:
        texts = [f"a photo of a {colour} cat", f"a photo of a {colour}-colored cat", f"a photo of a {colour} object"]
        tokens = tokenizer(texts, padding=True, truncation=True, max_length=8, return_tensors="pt").input_ids
        output = model(input_ids=tokens, pixel_values=Preprocess(tiny_vision.SIZE)(alone))
        scores.append(torch.cosine_similarity(output.text_embeds.mean(0), output.image_embeds[0], dim=0))
    assert seen == geneval_hf.COLOURS[int(torch.stack(scores).argmax())]


@pytest.mark.parametrize(
    ("meta", "says"),
    [
        ({"include": 5}, "include and exclude are lists"),
        ({"include": [entry("cat")] * 33}, "lists of 32 entries at most"),
        ({"include": ["cat"]}, "an entry has a class and a count from 1, got 'cat'"),
        ({"include": [{"class": "cat"}]}, "an entry has a class and a count"),
        ({"include": [entry("cat", 1e9)]}, "an entry has a class and a count"),
        ({"include": [entry("cat", 0)]}, "an entry has a class and a count"),
        ({"include": [entry("cat")], "exclude": [entry(3)]}, "an entry has a class and a count"),
        ({"include": [entry("cat", position=["left of", 0])]}, "number of an entry before it"),
        ({"include": [entry("cat"), entry("dog", position=["left of", 1])]}, "number of an entry before it"),
        ({"include": [entry("cat"), entry("dog", position=["left of", -1])]}, "number of an entry before it"),
        ({"include": [entry("cat"), entry("dog", position=3)]}, "got 3"),
    ],
)
def test_a_meta_of_another_form_is_refused_with_its_prompt(meta: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=f"prompt 'a cat': meta: .*{says}"):
        GenEvalHF()(Images(torch.rand(1, 3, 8, 8)), [Prompt("a cat", meta)])
