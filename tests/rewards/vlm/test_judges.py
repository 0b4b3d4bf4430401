"""Scores of the judges: by hand from what the service said, in order, and invalid where it said nothing usable."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from limner.core.errors import JudgeFailure, UserError
from limner.core.media import Images, Videos
from limner.core.protocols import Comparer, Specified
from limner.core.types import Prompt
from limner.judging.checked import Checked
from limner.judging.spec import spec_of
from limner.rewards.vlm.checklist import VLMChecklist
from limner.rewards.vlm.forms import Rubric
from limner.rewards.vlm.pairwise import VLMPairwise
from limner.rewards.vlm.rubric import VLMRubric
from limner.rewards.vlm.templates import CHECKLISTS, COMPARISONS, RUBRICS
from limner.rewards.vlm.yes_no import VLMYesNo
from rewards.vlm.server import Chat, Say, first_token, task_of, text, verdict

LEVELS = torch.tensor([51.0, 102.0, 204.0]) / 255
MEDIA = Images(LEVELS.reshape(3, 1, 1, 1).expand(3, 3, 4, 4))
PROMPTS = [Prompt("a"), Prompt("b"), Prompt("c")]


def level(request: dict[str, Any], place: int = 0) -> float:
    """The grey level of a picture that was sent, in [0, 1]."""
    urls = [part["image_url"]["url"] for part in request["messages"][1]["content"] if part["type"] == "image_url"]
    return float(np.asarray(Image.open(io.BytesIO(base64.b64decode(urls[place].split(",")[1]))))[0, 0, 0]) / 255


def sees(request: dict[str, Any]) -> Say:
    """Say yes with the picture's grey level as probability."""
    return first_token({"Yes": level(request), "No": 1 - level(request)})


def test_yes_no_is_the_probability_whatever_the_batch(chat: Chat) -> None:
    chat.answer = sees
    judge = VLMYesNo(url=chat.url)
    output = judge(MEDIA, PROMPTS)
    assert torch.allclose(output.score, LEVELS) and output.valid.all() and output.explanation == [None] * 3
    assert torch.allclose(output.components["mass"], torch.ones(3))
    order = torch.tensor([2, 0, 1])
    assert torch.equal(judge(Images(MEDIA.pixels[order]), [PROMPTS[i] for i in order]).score, output.score[order])
    one = judge(Images(MEDIA.pixels[1:2]), PROMPTS[1:2])
    assert torch.equal(one.score, output.score[1:2])
    assert judge.usage.requests == 7 and judge.usage.prompt_tokens == 350 and judge.usage.seconds > 0
    assert "Does this show everything" in task_of(chat.requests[0])


def test_yes_no_without_log_probabilities_is_invalid(chat: Chat) -> None:
    chat.answer = lambda request: text("Yes") if level(request) < 0.3 else sees(request)
    output = VLMYesNo(url=chat.url)(MEDIA, PROMPTS)
    assert output.valid.tolist() == [False, True, True] and output.score[0].isnan()
    assert output.components["mass"].isnan().tolist() == [True, False, False]
    assert output.explanation[0] == "the reply has no choices.0.logprobs.content.0.top_logprobs"
    chat.in_turn(text("Yes"))
    assert not VLMYesNo(url=chat.url)(MEDIA, PROMPTS).valid.any(), "it was answered, so it does not raise"


def test_a_service_that_is_down_marks_the_batch_and_the_run_goes_on(chat: Chat) -> None:
    chat.in_turn(Say("busy", 500))
    judge = VLMYesNo(url=chat.url, tries=1)
    with pytest.raises(JudgeFailure):
        judge(MEDIA, PROMPTS)
    assert not Checked("eye", judge)(MEDIA, PROMPTS).valid.any()


def test_rubric_maps_the_mean_to_one(chat: Chat) -> None:
    replies = [
        {"alignment": 5, "coherence": 5.0, "style": 5, "reason": "best\n\x1b[1m of all"},
        {"alignment": 1, "coherence": 2.5, "style": 4},
        {"style": 1, "coherence": 1, "alignment": 1, "reason": ["odd"], "more": True},
    ]
    chat.answer = lambda request: verdict(**replies["abc".index(task_of(request).split("\n")[1])])
    output = VLMRubric(url=chat.url)(MEDIA, PROMPTS)
    assert output.score.tolist() == pytest.approx([1.0, 0.375, 0.0]) and output.valid.all()
    assert {name: column.tolist() for name, column in output.components.items()} == {
        "alignment": [5, 1, 1],
        "coherence": [5, 2.5, 1],
        "style": [5, 4, 1],
    }
    assert output.explanation == ["best [1m of all", None, "['odd']"]


@pytest.mark.parametrize(
    "reply",
    [
        {"alignment": 6, "coherence": 3, "style": 3},
        {"alignment": 0.99, "coherence": 3, "style": 3},
        {"alignment": "5", "coherence": 3, "style": 3},
        {"alignment": True, "coherence": 3, "style": 3},
        {"alignment": None, "coherence": 3, "style": 3},
        {"alignment": [5], "coherence": 3, "style": 3},
        {"coherence": 3, "style": 3},
        {"Alignment": 5, "coherence": 3, "style": 3},
        {"alignment": 10**400, "coherence": 3, "style": 3},
        {},
    ],
    ids=json.dumps,
)
def test_numbers_that_are_not_in_range_make_a_sample_invalid(chat: Chat, reply: dict[str, Any]) -> None:
    good = {"alignment": 3, "coherence": 3, "style": 3}
    chat.answer = lambda request: verdict(**(reply if "\nb\n" in task_of(request) else good))
    output = VLMRubric(url=chat.url)(MEDIA, PROMPTS)
    assert output.valid.tolist() == [True, False, True] and output.score.tolist()[::2] == [0.5, 0.5]
    assert output.score[1].isnan() and all(column[1].isnan() for column in output.components.values())
    assert "alignment is no number from 1 to 5" in str(output.explanation[1])


@pytest.mark.parametrize("content", ["I give it 5 of 5.", '{"alignment": 5, "coherence": 3, "sty', "", "[5, 3, 3]"])
def test_a_reply_that_does_not_parse_makes_a_sample_invalid(chat: Chat, content: str) -> None:
    chat.in_turn(text(content))
    output = VLMRubric(url=chat.url)(MEDIA, PROMPTS)
    assert not output.valid.any() and output.score.isnan().all()


def test_what_does_not_apply_leaves_the_mean(chat: Chat) -> None:
    """RationalRewards: numbers from 1 to 4, (mean - 1) / 3."""
    chat.in_turn(verdict(text_faithfulness=4, quality=2, text_rendering=None))
    output = VLMRubric(url=chat.url, preset="rational_rewards")(MEDIA, PROMPTS)
    assert output.score.tolist() == pytest.approx([2 / 3] * 3) and output.components["text_rendering"].isnan().all()
    chat.in_turn(verdict(text_faithfulness=4, quality=2, text_rendering=1))
    output = VLMRubric(url=chat.url, preset="rational_rewards")(MEDIA, PROMPTS)
    assert output.score.tolist() == pytest.approx([4 / 9] * 3)
    for unusable in ({"text_faithfulness": 4, "quality": 2}, dict.fromkeys(RUBRICS["rational_rewards"].criteria)):
        chat.in_turn(verdict(**unusable))
        assert not VLMRubric(url=chat.url, preset="rational_rewards")(MEDIA, PROMPTS).valid.any()


@pytest.mark.parametrize(
    ("count", "fps", "seen"),
    [(13, 8.0, [0, 4, 8, 12]), (8, 8.0, [0, 4]), (10, 25 / 3, [0, 4, 8]), (4, 2.0, [0, 1, 2, 3])],
)
def test_a_rubric_with_a_rate_sees_frames_at_its_times(chat: Chat, count: int, fps: float, seen: list[int]) -> None:
    """Two a second: of the frames those at 0, .5, 1 seconds and so on, the one that is shown then."""
    chat.in_turn(verdict(visual_quality=3, motion_quality=1, alignment=5))
    film = Videos((torch.arange(count) * 10 / 255).view(1, -1, 1, 1, 1).expand(1, -1, 3, 2, 2), fps)
    assert VLMRubric(url=chat.url, preset="video_reward", frames=2)(film, PROMPTS[:1]).score.tolist() == [0.5]
    assert [round(level(chat.requests[0], i) * 25.5) for i in range(len(seen))] == seen
    assert len([p for p in chat.requests[0]["messages"][1]["content"] if p["type"] == "image_url"]) == len(seen)
    assert "The frames are 2 of each second of the video." in task_of(chat.requests[0])


def test_a_rubric_with_a_rate_refuses_another() -> None:
    judge = VLMRubric(preset="video_reward")
    clip = torch.zeros(1, 8, 3, 2, 2)
    with pytest.raises(UserError, match="by 2 frames a second, and these have 1: say in model.settings.fps"):
        judge(Videos(clip, 1.0), PROMPTS[:1])
    with pytest.raises(UserError, match="8 frames at 16 a second leave one"):
        judge(Videos(clip, 16.0), PROMPTS[:1])
    with pytest.raises(UserError, match="Images have no such rate"):
        judge(MEDIA, PROMPTS)


def test_a_rubric_of_your_own(chat: Chat, tmp_path: Path) -> None:
    file = tmp_path / "rubric.yaml"
    file.write_text("criteria:\n  calm: how calm it is\nlow: -10\nhigh: 10\n")
    chat.in_turn(verdict(calm=5))
    judge = VLMRubric(url=chat.url, template=str(file), reason=False, guided=False)
    assert judge(MEDIA, PROMPTS).score.tolist() == [0.75] * 3
    assert '- "calm": how calm it is' in task_of(chat.requests[0]) and "-10 (worst) to 10 (best)" in task_of(
        chat.requests[0]
    )
    assert judge.spec.components == {"calm": "how calm it is, -10 to 10"}


def test_a_checklist_is_asked_question_by_question(chat: Chat, tmp_path: Path) -> None:
    file = tmp_path / "list.yaml"
    file.write_text(
        "- {id: face, text: 'Is a face visible?', weight: 0}\n"
        "- {id: eyes, text: 'Are the eyes level?', weight: 3, mask: face}\n"
        "- {id: noise, text: 'Is it noisy?', answer: no}\n"
    )
    faces = {"a": 0.9, "b": 0.2, "c": 0.9}

    def answer(request: dict[str, Any]) -> Say:
        prompt = task_of(request).split("\n")[1]
        if "noisy" in task_of(request):
            return first_token({"yes": 0.25, "no": 0.75})
        if "eyes" in task_of(request):
            return text("I cannot say") if prompt == "c" else first_token({"yes": 0.5, "no": 0.5})
        return first_token({"yes": faces[prompt], "no": 1 - faces[prompt]})

    chat.answer = answer
    judge = VLMChecklist(url=chat.url, file=str(file))
    output = judge(MEDIA, PROMPTS)
    assert output.score[:2].tolist() == pytest.approx([(3 * 0.5 + 0.75) / 4, 0.75]) and output.score[2].isnan()
    assert output.valid.tolist() == [True, True, False] and len(chat.requests) == 9
    assert output.components["eyes"].isnan().tolist() == [False, True, True]
    assert output.components["noise"].tolist() == pytest.approx([0.75] * 3)
    assert output.explanation[:2] == [None, None] and str(output.explanation[2]).startswith("eyes: the reply has no")


def test_atoms_come_with_the_prompt(chat: Chat) -> None:
    """Soft-TIFA: the mean of the atoms' probabilities, and their geometric mean, over as many as a prompt has."""
    prompts = [
        Prompt("two red cats", {"atoms": [["How many cats are there?", "two"], ["Are the cats red?", "Yes"]]}),
        Prompt("a dog", {"atoms": [["Is there a dog?", "yes"]]}),
    ]
    shares = {"How many": 0.9, "red": 0.4, "dog": 0.7}
    chat.answer = lambda request: next(
        first_token({"yes": p, "no": 1 - p})
        for word, p in shares.items()
        if word in task_of(request).split("<question>")[1]
    )
    two = Images(MEDIA.pixels[:2])
    for preset, expected in (("soft_tifa_am", [0.65, 0.7]), ("soft_tifa_gm", [0.6, 0.7])):
        judge = VLMChecklist(url=chat.url, preset=preset)
        output = judge(two, prompts)
        assert output.score.tolist() == pytest.approx(expected) and judge.spec.needs == ("prompt", "meta.atoms")
        assert output.components["1"].tolist() == pytest.approx([0.9, 0.7])
        assert output.components["2"].isnan().tolist() == [False, True]
    assert any("The proposed answer is: two. Is the proposed answer right?" in task_of(r) for r in chat.requests)
    with pytest.raises(UserError, match="the prompt 'a' has no 'atoms' beside its text"):
        VLMChecklist(url=chat.url, preset="soft_tifa_am")(MEDIA, PROMPTS)
    with pytest.raises(UserError, match="'atoms' of the prompt 'x': expected a list of questions, got 'a, b'"):
        VLMChecklist(url=chat.url, preset="soft_tifa_am")(two, [Prompt("x", {"atoms": "a, b"})] * 2)


def test_children_fall_with_their_parents(chat: Chat) -> None:
    """Davidsonian Scene Graph: no motorcycle, so whether it is blue does not count for it."""
    graph = [
        {"id": "m", "text": "Is there a motorcycle?"},
        {"id": "blue", "text": "Is the motorcycle blue?", "parents": "m"},
        {"id": "d", "text": "Are there doors?"},
    ]
    chat.answer = lambda request: first_token(
        {"no": 0.8, "yes": 0.2} if "there a motor" in task_of(request) else {"yes": 1.0}
    )
    output = VLMChecklist(url=chat.url, preset="dsg")(Images(MEDIA.pixels[:1]), [Prompt("x", {"questions": graph})])
    assert output.score.tolist() == pytest.approx([1.2 / 3]) and output.components["blue"].tolist() == [0.0]


@pytest.mark.parametrize(
    ("winners", "p"),
    [
        (("first", "second"), 1.0),
        (("second", "first"), 0.0),
        (("first", "first"), 0.5),
        (("second", "second"), 0.5),
        (("tie", "tie"), 0.5),
        (("first", "tie"), 0.75),
        (("tie", "first"), 0.25),
    ],
)
def test_both_orders_are_asked(chat: Chat, winners: tuple[str, str], p: float) -> None:
    a, b = Images(MEDIA.pixels[:1]), Images(MEDIA.pixels[2:])
    chat.answer = lambda request: verdict(
        reason=f"{level(request):.1f}", winner=winners[level(request) > level(request, 1)]
    )
    judge = VLMPairwise(url=chat.url)
    output = judge.compare(a, b, PROMPTS[:1])
    assert output.score.tolist() == [p] and output.valid.tolist() == [True] and len(chat.requests) == 2
    assert output.explanation == ["0.2 | 0.8"] and output.components["a_first"].tolist() == [
        {"first": 1.0, "second": 0.0, "tie": 0.5}[winners[0]]
    ]
    assert isinstance(judge, Comparer) and "Which of the two would" in task_of(chat.requests[0])


def test_a_pair_with_one_unreadable_reply_is_invalid(chat: Chat) -> None:
    better = {"a": "first", "b": "left", "c": "second"}

    def answer(request: dict[str, Any]) -> Say:
        prompt = task_of(request).split("\n")[1]
        return verdict(winner=better[prompt] if level(request) < level(request, 1) else "tie")

    chat.answer = answer
    output = VLMPairwise(url=chat.url).compare(MEDIA, Images(MEDIA.pixels + 0.1), PROMPTS)
    assert output.valid.tolist() == [True, False, True] and output.score.tolist()[::2] == [0.75, 0.25]
    assert output.score[1].isnan() and "winner is not one of first, second, tie: 'left'" in str(output.explanation[1])
    chat.in_turn(verdict(winner=["first"]))
    assert not VLMPairwise(url=chat.url).compare(MEDIA, MEDIA, PROMPTS).valid.any()


JUDGES = [VLMYesNo(), VLMRubric(), VLMChecklist(), VLMPairwise()]


@pytest.mark.parametrize("judge", JUDGES, ids=lambda judge: type(judge).__name__)
def test_a_version_says_everything_that_decides(judge: Any, tmp_path: Path) -> None:
    assert isinstance(judge, Specified) and spec_of("x", judge).name.startswith("vlm_")
    versions = {judge.spec.version, dataclasses.replace(judge).spec.version}
    assert len(versions) == 1
    changes: dict[str, Any] = {
        "url": "http://other/v1",
        "model": "eye",
        "frames": 3,
        "question": "Is it red?",
        "top": 7,
    }
    changes |= {"max_tokens": 9, "guided": False, "reason": False}
    known = {field.name for field in dataclasses.fields(judge)}
    changed = [dataclasses.replace(judge, **{name: value}) for name, value in changes.items() if name in known]
    others = {"VLMRubric": RUBRICS, "VLMChecklist": CHECKLISTS, "VLMPairwise": COMPARISONS}.get(
        type(judge).__name__, {}
    )
    changed += [dataclasses.replace(judge, preset=name) for name in others if name != judge.preset]
    assert len({each.spec.version for each in [judge, *changed]}) == len(changed) + 1
    same = dataclasses.replace(judge, timeout_s=5.0, tries=1, workers=2)
    assert same.spec.version == judge.spec.version, "how it is asked does not decide what is said"


def test_a_version_knows_a_file_by_its_content(tmp_path: Path) -> None:
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    one.write_text('["Is it red?"]')
    two.write_text('["Is it red?"]')
    first = VLMChecklist(file=str(one)).spec.version
    assert first == VLMChecklist(file=str(two)).spec.version
    two.write_text('[{"text": "Is it red?", "weight": 2}]')
    assert first != VLMChecklist(file=str(two)).spec.version


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: VLMRubric(preset="unified_rewards"), "did you mean 'unified_reward'"),
        (lambda: VLMRubric(template="nowhere.yaml"), "rubric nowhere.yaml: no such file"),
        (lambda: VLMRubric(max_tokens=0), "max_tokens must be 1 or more, got 0"),
        (lambda: VLMChecklist(preset="tifa"), "unknown preset 'tifa'"),
        (lambda: VLMChecklist(file="nowhere.yaml"), "checklist nowhere.yaml: no such file"),
        (lambda: VLMChecklist(top=50), "top must be 2 to 20 tokens, got 50"),
        (lambda: VLMPairwise(preset="overal"), "did you mean 'overall'"),
        (lambda: VLMPairwise(max_tokens=0), "max_tokens must be 1 or more, got 0"),
    ],
)
def test_wrong_settings_are_refused_at_once(make: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        make()


def test_templates_hold_together() -> None:
    for rubric in RUBRICS.values():
        assert isinstance(rubric, Rubric) and rubric.low < rubric.high and "arXiv" in rubric.source
    for checklist in CHECKLISTS.values():
        ids = [question.id for question in checklist.questions]
        assert bool(ids) != bool(checklist.meta) and len(set(ids)) == len(ids) and "arXiv" in checklist.source
        for place, question in enumerate(checklist.questions):
            assert {question.mask or ids[0], *question.parents} <= set(ids[: place + 1]), "parents come first"
    assert not math.isnan(RUBRICS["rational_rewards"].low) and "overall" in COMPARISONS
