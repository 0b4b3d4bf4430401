"""Questions whose answer is known by another prompt's picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from feedback.collection import two_folders
from limner.annotate import annotate
from limner.core.errors import UserError
from limner.feedback.gold import misplaced
from limner.feedback.task import Item, Task

PROMPTS = ("a red circle", "a blue square", "two blue squares", "a red square", "")


def items(*prompts: str) -> list[Item]:
    return [
        Item(Path(f"{i}.png"), prompt, "base", f"sha-{i}", {"sensitive": i == 1}) for i, prompt in enumerate(prompts)
    ]


def test_a_picture_meets_one_whose_prompt_shares_no_word_with_its_own() -> None:
    """By hand: each meets the next one that asks for nothing of the same; articles are no words."""
    several = items(*PROMPTS)
    made, tasks = misplaced(several, 9)
    met = {several[[one.id for one in several].index(task.items[0])].prompt: task for task in tasks}
    of = {bad.id: bad.path.stem for bad in made}
    assert {prompt: of[task.items[1]] for prompt, task in met.items()} == {
        "a red circle": "1",
        "a blue square": "0",
        "two blue squares": "3",
        "a red square": "2",
    }
    assert all(task == Task("pair", prompt, task.items, better=0) for prompt, task in met.items())
    assert {bad.prompt for bad in made} == set(met) and {bad.source for bad in made} == {"misplaced"}
    [veiled] = [bad for bad in made if bad.path == several[1].path]
    assert veiled.facts == {"of": several[1].id, "sensitive": True}


def test_as_many_as_are_asked_for_and_the_same_ones_again() -> None:
    several = items(*PROMPTS)
    assert misplaced(several, 2) == misplaced(several, 2)
    assert [task.prompt for task in misplaced(several, 2)[1]] == ["a red circle", "two blue squares"]
    assert misplaced(several, 0) == ([], []) == misplaced(items("a red circle", "a red square"), 5)


def test_where_all_prompts_are_alike_the_page_does_not_begin(tmp_path: Path) -> None:
    place = two_folders(tmp_path / "set", 8)  # prompt 0, prompt 1, ...
    with pytest.raises(UserError, match="--known both: every two prompts of .* have a word in common"):
        annotate(place, port=0, known="both")
    assert not (place / "votes.db").exists()
