"""A reward that is learned from what people said, from a file of pairs to a run, and its promotion."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import torch
from PIL import Image

from limner.cli import main
from limner.core.errors import UserError
from limner.core.media import Images, Videos
from limner.core.protocols import Reward
from limner.core.rng import fixed_share
from limner.core.types import Prompt
from limner.judges import compose, judges_in
from limner.judging.rows import from_rows
from limner.judging.wire import CONTENT_TYPE, decode_answer, encode_request
from limner.objectives.lapse import Lapse
from limner.reward_models import promote, train_reward
from limner.rewards.learned.design import Design, Kind
from limner.rewards.learned.folder import CARD, SERVED, WEIGHTS, read, read_card
from limner.rewards.learned.motion import as_trained, with_change
from limner.rewards.learned.network import Member
from limner.rewards.learned.reward import Learned
from limner.serve.app import app
from serving import call

EDGE = 16
PATCHES = {"design.kind": "patches"}
LINEAR = {"design.kind": "linear"}
SMALL = {"design.edge": EDGE, "design.width": 16, "design.members": 2, "epochs": 12, "lr": 0.02, "contrast": 0.0}


def collection(folder: Path, prompts: int, likes: Callable[[int], float], first: int = 0, person: str = "p1") -> Path:
    """Write pairs of grey pictures for prompts; the better one of each has the level that is liked more."""
    folder.mkdir(parents=True, exist_ok=True)
    generator, rows = torch.Generator().manual_seed(first), []
    for i in range(first, first + prompts):
        a, b = torch.randint(0, 256, (2,), generator=generator).tolist()
        for side, level in (("a", a), ("b", b)):
            Image.new("RGB", (EDGE, EDGE), (level, level, level)).save(folder / f"{i}-{side}.png")
        choice = "tie" if abs(a - b) < 8 else "a" if likes(a) > likes(b) else "b"
        row = {"prompt": f"a thing {i}", "media_a": f"{i}-a.png", "media_b": f"{i}-b.png", "choice": choice}
        rows.append(row | {"annotators": [person], "category": ("even", "odd")[i % 2]})
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def bright(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward of people who like what is bright."""
    folder = tmp_path_factory.mktemp("bright")
    return train_reward(str(collection(folder / "votes", 120, float)), folder / "reward", SMALL)


def greys(*levels: int) -> Images:
    return Images(torch.tensor(levels, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, EDGE, EDGE).contiguous())


def test_it_learns_what_is_liked_and_says_how_well(bright: Path) -> None:
    """On prompts that it never saw, in any expression, with gradients, and with how unsure it is."""
    told = read_card(bright).measured["overall"]["accuracy"]
    right = round(told["value"] * told["n"])  # of some ten held-out pairs: a coin is as often right in 2 % of cases
    assert sum(math.comb(told["n"], k) for k in range(right, told["n"] + 1)) / 2 ** told["n"] < 0.02
    judge = compose(f"learned(folder='{bright}')")
    levels = torch.randint(0, 256, (2, 200), generator=torch.Generator().manual_seed(3))
    levels = levels[:, (levels[0] - levels[1]).abs() >= 8]
    worth = judge(greys(*levels.flatten().tolist()), [Prompt("a thing 7")] * levels.numel()).score.unflatten(0, (2, -1))
    assert ((worth[0] > worth[1]) == (levels[0] > levels[1])).double().mean() > 0.9
    prompts = [Prompt("a thing 7")] * 3
    columns = judge.columns(greys(20, 120, 230), prompts)
    where = f"learned(folder='{bright}')"
    score = columns[where]
    assert score[0] < score[1] < score[2]
    spread = columns[f"{where}/uncertainty"]
    assert (spread > 0).all()
    cautious = compose(f"pessimistic(learned(folder='{bright}'), k=2)")(greys(20, 120, 230), prompts)
    torch.testing.assert_close(cautious.score, score - 2 * spread)
    pixels = (greys(100, 150).frames()).requires_grad_()
    compose(f"learned(folder='{bright}')").differentiable(Images(pixels[:, 0]), prompts[:2]).score.sum().backward()
    assert pixels.grad is not None and pixels.grad.abs().sum() > 0
    page = (bright / "report.html").read_text()
    assert "Calibration error" in page and "even" in page and "<script" not in page
    assert "Same when swapped" in page and read_card(bright).measured["overall"]["swap_consistency"] > 0.9


def test_a_card_keeps_how_often_it_is_wrong_and_one_of_before_reads(bright: Path, tmp_path: Path) -> None:
    [lapse] = read_card(bright).lapses
    assert lapse.slope > 0 and 0 <= lapse.lapse < 1
    said = json.loads((bright / "card.json").read_text())
    del said["lapses"]
    (tmp_path / "card.json").write_text(json.dumps(said))
    assert read_card(tmp_path).lapses == (Lapse(1.0, 0.0),)


def test_it_says_what_a_score_comes_from(bright: Path) -> None:
    """Of a picture bright on the left: places add up to what it is worth over grey, and clauses to the score."""
    halves = torch.full((1, 3, EDGE, EDGE), 30, dtype=torch.uint8)
    halves[..., : EDGE // 2] = 250
    where, prompt = f"learned(folder='{bright}', explain=True)", [Prompt("a thing, a thing 7")]
    output = compose(where)(Images(halves), prompt)
    plain = compose(f"learned(folder='{bright}')")
    grey = plain.differentiable(Images(torch.full((1, 3, EDGE, EDGE), 0.5)), prompt).score
    [places] = output.maps[f"{where}/where"]
    torch.testing.assert_close(output.score, plain(Images(halves), prompt).score)
    torch.testing.assert_close(places.sum(), (output.score - grey)[0], rtol=1e-3, atol=1e-3, check_dtype=False)
    assert places.shape == (5, 5) and places[:, :2].sum() > places[:, 3:].sum()
    told = str(output.explanation[0])
    assert re.fullmatch(r"\S+ whatever is asked; \S+ a thing; \S+ a thing 7", told)
    shares = [float(number) for number in re.findall(r"[+-]\d+\.\d+", told)]
    assert abs(sum(shares) - float(output.score[0])) < 0.02
    page = (bright / "report.html").read_text()
    assert "What a score comes from" in page and page.count("whatever is asked") == 8 and "not preferred" in page


def test_clips_are_learned_from_frame_by_frame(tmp_path: Path) -> None:
    """Of clips of three frames the brighter one is preferred; a clip is worth the mean of what its frames are."""
    path, rows = collection(tmp_path / "votes", 40, float), []
    for line in path.read_text().splitlines():
        row = json.loads(line)
        for side in "ab":
            [level] = {Image.open(tmp_path / "votes" / row[f"media_{side}"]).getpixel((0, 0))[0]}
            levels = torch.tensor([level, 255 - level // 2, level], dtype=torch.uint8)
            clip = Videos(levels[None, :, None, None, None].expand(-1, -1, 3, EDGE, EDGE).contiguous(), 4.0)
            row[f"media_{side}"] = row[f"media_{side}"].replace(".png", ".webp")
            clip.save([tmp_path / "votes" / row[f"media_{side}"]])
        rows.append(json.dumps(row))
    path.write_text("\n".join(rows))
    found = train_reward(str(path), tmp_path / "r", {**SMALL, "frames": 3})
    assert read_card(found).measured["overall"]["accuracy"]["value"] > 0.75
    judge, frames = Learned(str(found)), greys(30, 200, 90).values
    alone = judge(Images(frames), [Prompt("a thing 7")] * 3).score
    together = judge(Videos(frames[None], 4.0), [Prompt("a thing 7")]).score
    torch.testing.assert_close(together[0], alone.mean())


def test_what_has_changed_is_by_hand() -> None:
    """Two clips of three frames, of one number each; and frames as a reward that learned from so many sees them."""
    seen = torch.tensor([1.0, 4.0, 2.0, 5.0, 5.0, 9.0])[:, None]
    expected = [[1, 0], [4, 3], [2, -2], [5, 0], [5, 0], [9, 4]]
    assert with_change(seen, 3).tolist() == expected
    places = torch.arange(9.0)[None]
    assert [as_trained(places, count).tolist() for count in (3, 2, 1)] == [[[1, 4, 7]], [[2, 6]], [[4]]]
    assert as_trained(places[:, :2], 5).tolist() == [[0, 0, 0, 1, 1]] and as_trained(places, 9).equal(places)


@pytest.mark.parametrize(("kind", "shape"), [("small", (16, 2, 2)), ("patches", (284, 2, 2)), ("frozen", (1280,))])
def test_the_order_of_frames_counts_where_motion_does(kind: Kind, shape: tuple[int, ...]) -> None:
    """Of networks that learned nothing yet, and of what they might see of two clips of three frames."""
    seen, words = torch.randn(6, *shape, generator=torch.Generator().manual_seed(0)), ("a", "star")
    for motion in (False, True):
        torch.manual_seed(1)
        member = Member(Design(kind=kind, width=16, edge=16, motion=motion), words, 1, 0).eval()
        read = torch.randn(2, 384) if kind == "frozen" else member.network.read(["a star", "a"])
        forth, back = (
            member.say(each, read, 3).worth.mean for each in (seen, seen.view(2, 3, *shape).flip(1).flatten(0, 1))
        )
        assert torch.allclose(forth, back, atol=1e-5) != motion
        first = member.say(seen[:1], read[:1]).worth.mean  # a clip that does not move is worth what its picture is
        torch.testing.assert_close(member.say(seen[:1].repeat_interleave(3, 0), read[:1], 3).worth.mean, first)


def test_a_clip_and_its_reverse_are_told_apart_by_motion_alone(tmp_path: Path) -> None:
    """Of each pair both have the same frames, in one order and the other, and what grows is preferred.

    Of a reward that sees frames one by one both are worth the same. One that sees what changes has new clips in order,
    at other rates than those that it learned from, too: of 20, by chance, all with probability 1e-6.
    """
    generator, rows = torch.Generator().manual_seed(0), []

    def clip(frames: int) -> torch.Tensor:
        first, gain = (int(torch.randint(low, high, (), generator=generator)) for low, high in ((2, 7), (4, 9)))
        clip = torch.full((frames, 3, EDGE, EDGE), 40, dtype=torch.uint8)
        for frame, side in zip(clip, torch.linspace(first, first + gain, frames).round().int().tolist(), strict=True):
            frame[:, :side, :side] = 220
        return clip

    for i in range(40):
        growing = clip(3)
        sides = (growing, growing.flip(0)) if i % 2 else (growing.flip(0), growing)
        names = {f"media_{side}": f"{i}-{side}.webp" for side in "ab"}
        Videos(torch.stack(sides), 4.0).save([tmp_path / name for name in names.values()])
        rows.append({"prompt": f"a thing {i}", "choice": "a" if i % 2 else "b", "annotators": ["p1"]} | names)
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    how = {**SMALL, "frames": 3, "design.motion": True, "design.members": 1}
    judge = Learned(str(train_reward(str(tmp_path / "pairs.jsonl"), tmp_path / "r", how)))
    prompts = [Prompt("a thing 7")] * 10
    for frames in (3, 8):
        ahead = torch.stack([clip(frames) for _ in prompts])
        forth, back = (judge(Videos(each, 4.0), prompts).score for each in (ahead, ahead.flip(1)))
        assert (forth > back).all(), frames


def test_who_is_asked_about_frames_sees_no_motion(bright: Path) -> None:
    levels = greys(30, 200, 90).values[None]
    forth, back = (
        Learned(str(bright))(Videos(each, 4.0), [Prompt("a thing 7")]).score for each in (levels, levels.flip(1))
    )
    torch.testing.assert_close(forth, back)
    with pytest.raises(UserError, match="vlm is asked about each frame by itself: leave design.motion out"):
        Design(kind="vlm", network="there", motion=True)


def test_no_prompt_is_trained_on_and_measured(bright: Path) -> None:
    """The split is by prompt, and the prompts of all parts are on the card, as digests."""
    held = sum(fixed_share(f"a thing {i}") < 0.2 for i in range(120))
    card = read_card(bright)
    assert card.measured["overall"]["accuracy"]["n"] <= held and len(card.trained["prompts"]) == 120
    assert card.trained["people"] == ["p1"]


@pytest.mark.parametrize(
    "how", [{"design.ties": "rao_kupper"}, {"design.gaussian": True}, {"design.kind": "frozen"}, LINEAR, PATCHES]
)
def test_every_design_learns(how: dict[str, object], tmp_path: Path) -> None:
    found = train_reward(str(collection(tmp_path / "votes", 40, float)), tmp_path / "r", {**SMALL, **how})
    assert read_card(found).measured["overall"]["accuracy"]["value"] > 0.75


def test_people_of_opposite_tastes_have_a_reward_each(tmp_path: Path) -> None:
    """Of one collection, in which as many like what is dark as what is bright: each one's own, and none of both.

    They answer by Bradley and Terry, 50 levels being a nat, and about their own held-out votes it is right.
    """
    generator, rows = torch.Generator().manual_seed(5), []
    for name, likes in (("anna", 1), ("bela", -1)):
        path = collection(tmp_path / name, 60, float)
        for row in map(json.loads, path.read_text().splitlines()):
            a, b = (Image.open(tmp_path / name / row[f"media_{side}"]).getpixel((0, 0))[0] for side in "ab")
            chance = torch.sigmoid(torch.tensor(likes * (a - b) / 50))
            chose = "a" if torch.rand((), generator=generator) < chance else "b"
            sides = {f"media_{side}": f"{name}/{row[f'media_{side}']}" for side in "ab"}
            rows.append(row | sides | {"choice": chose, "annotators": [name]})
    votes = tmp_path / "votes.jsonl"
    votes.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = train_reward(str(votes), tmp_path / "r", {**SMALL, "design.tastes": 1})
    assert read_card(found).people == ("anna", "bela")

    def lead(taste: str) -> float:
        dark, bright = compose(f"learned(folder='{found}'{taste})")(greys(30, 220), [Prompt("a thing 7")] * 2).score
        return float(bright - dark)

    anna, bela = (lead(f", taste='{name}'") for name in ("anna", "bela"))
    assert anna > 1 and bela < -1 and abs(lead("")) < min(anna, -bela) / 2
    assert read_card(found).measured["overall"]["accuracy"]["value"] > 0.7
    with pytest.raises(UserError, match="does not know the taste of 'ana'; did you mean 'anna'"):
        compose(f"learned(folder='{found}', taste='ana')")
    with pytest.raises(UserError, match="no two people to tell apart"):
        train_reward(str(collection(tmp_path / "one", 40, float)), tmp_path / "s", {**SMALL, "design.tastes": 1})


def test_patches_have_a_size() -> None:
    for kind in ("patches", "linear"):
        with pytest.raises(
            UserError, match=f"of kind {kind} sees 8 pixels a side of each patch: edge 20 is no multiple"
        ):
            Design(kind=kind, edge=20)


def test_rankings_ratings_and_questions_are_learned_from(tmp_path: Path) -> None:
    """Three pictures in an order, one that is liked or not, and two questions that disagree."""
    path = collection(tmp_path, 60, float)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        a, b = (Image.open(tmp_path / row[f"media_{side}"]).getpixel((0, 0))[0] for side in "ab")
        sides = {"votes_a": float(a > b), "votes_b": float(a < b), "ties_good": float(a == b), "ties_bad": 0}
        row["dims"] = {"light": sides, "dark": sides | {"votes_a": sides["votes_b"], "votes_b": sides["votes_a"]}}
    levels = {i: 4 * i for i in range(60)}
    for i, level in levels.items():
        Image.new("RGB", (EDGE, EDGE), (level, level, level)).save(tmp_path / f"more-{i}.png")
    names = [f"more-{i}.png" for i in range(60)]
    more = [{"prompt": f"a thing {i}", "images": names[i : i + 3], "rank": [3, 2, 1]} for i in range(57)]
    liked = [{"prompt": f"a thing {i}", "image": names[i], "label": int(i > 30)} for i in range(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *more, *liked]))
    found = train_reward(str(path), tmp_path / "r", SMALL)
    answer = compose(f"learned(folder='{found}')")(greys(30, 220), [Prompt("a thing 3")] * 2)
    assert answer.score[0] < answer.score[1] and read_card(found).questions == ("light", "dark")
    dark = compose(f"learned(folder='{found}').dark")(greys(30, 220), [Prompt("a thing 3")] * 2).score
    assert dark[0] > dark[1]


def test_it_is_served_only_if_held_out_people_find_it_better(bright: Path, tmp_path: Path) -> None:
    """First against chance, then against what is served; the old one stays, and what decided is kept."""
    dark = train_reward(str(collection(tmp_path / "dark", 60, lambda x: -x)), tmp_path / "dark-reward", SMALL)
    people = collection(tmp_path / "people", 40, float, first=1000, person="p9")
    served = tmp_path / "served"
    with pytest.raises(UserError, match="It must lie above 0"):
        promote(dark, served, str(people))
    assert not (served / SERVED).exists()
    assert "95 % interval" in promote(bright, served, str(people))
    where = f"learned(folder='{served}')"
    prompts = [Prompt("a thing 3")] * 2
    same = compose(f"learned(folder='{bright}')")(greys(30, 220), prompts).score
    torch.testing.assert_close(compose(where)(greys(30, 220), prompts).score, same)
    [judge] = judges_in(where)[1].values()  # what `limner serve-reward` hosts
    body = encode_request(greys(30, 220), prompts, 60)
    _, _, answer = asyncio.run(call(app(cast(Reward, judge), where), "/v1/score", body, content_type=CONTENT_TYPE))
    torch.testing.assert_close(from_rows(decode_answer(answer, 2).rows).score, same)
    with pytest.raises(UserError, match="stays as it is"):
        promote(dark, served, str(people))
    others = collection(tmp_path / "others", 40, lambda x: -x, first=2000, person="p8")
    promote(dark, served, str(others))
    score = compose(where)(greys(30, 220), prompts).score
    assert score[0] > score[1]
    assert len(json.loads((served / SERVED).read_text())["history"]) == 1 and (bright / CARD).exists()


def test_people_and_prompts_of_the_training_do_not_decide(bright: Path, tmp_path: Path) -> None:
    known = collection(tmp_path / "known", 40, float, person="p9")
    with pytest.raises(UserError, match="every one of its 40 rows"):
        promote(bright, tmp_path / "served", str(known))
    asked = collection(tmp_path / "asked", 40, float, first=1000, person="p1")
    with pytest.raises(UserError, match="every one of its 40 rows"):
        promote(bright, tmp_path / "served", str(asked))


def test_nothing_is_measured_by_pairs_that_were_asked_actively(bright: Path, tmp_path: Path) -> None:
    """Of held-out prompts those of chance count alone; where there are none nothing is trained, nor served."""
    pairs = collection(tmp_path / "votes", 60, float)
    said = [json.loads(line) for line in pairs.open()]
    held = [row for row in said if fixed_share(row["prompt"]) < 0.2]

    def asked(active: int) -> Path:
        names = {row["prompt"] for row in [row for row in said if row not in held] + held[:active]}
        written = [row | {"asked": ["active" if row["prompt"] in names else "random"]} for row in said]
        pairs.write_text("".join(json.dumps(row) + "\n" for row in written))
        return pairs

    told = read_card(train_reward(str(asked(4)), tmp_path / "r", SMALL | {"epochs": 1})).measured["overall"]
    assert told["votes"] == len(held) - 4
    with pytest.raises(UserError, match=f"all {len(held)} pairs of held-out prompts were asked actively"):
        train_reward(str(asked(len(held))), tmp_path / "s", SMALL)
    with pytest.raises(UserError, match="or was asked actively"):
        people = collection(tmp_path / "people", 4, float, first=1000, person="p9")
        people.write_text(people.read_text().replace('"annotators"', '"asked": "active", "annotators"'))
        promote(bright, tmp_path / "served", str(people))


def test_held_out_ties_alone_are_refused_before_training_and_of_another_question_told(tmp_path: Path) -> None:
    pairs = collection(tmp_path / "votes", 40, float)
    said = [json.loads(line) for line in pairs.open()]
    held = [row for row in said if fixed_share(row["prompt"]) < 0.2]
    tied = [row | {"choice": "tie_good"} if row in held else row for row in said]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in tied))
    with pytest.raises(UserError, match=f"of {len(held)} pairs of held-out prompts none has a better side"):
        train_reward(str(pairs), tmp_path / "r", SMALL | {"epochs": 10**8})
    for row in said:
        sides = {"votes_a": int(row["choice"] == "a"), "votes_b": int(row["choice"] != "a")}
        row["dims"] = {"fit": sides, "style": {"ties_bad": 1}}
    pairs.write_text("".join(json.dumps(row) + "\n" for row in said))
    found = train_reward(str(pairs), tmp_path / "s", SMALL | {"epochs": 1})
    assert list(read_card(found).measured) == ["fit"] and read_card(found).questions == ("fit", "style")
    assert "style: nobody chose a side on held-out prompts" in (found / "report.html").read_text()


def test_the_command_line_and_what_it_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = collection(tmp_path / "votes", 40, float)
    keys = [f"--{key}={value}" for key, value in (SMALL | {"epochs": 2}).items()]
    assert main(["reward", "train", str(pairs), "--out", str(tmp_path / "r"), *keys]) == 0
    assert "report.html" in capsys.readouterr().out
    refused = [
        (["reward", "train", str(pairs), "--out", str(tmp_path / "r")], "holds a reward"),
        (["reward", "train", str(pairs), "--out", str(tmp_path / "s"), "--epoch", "3"], "epochs"),
        (["reward", "promote", str(tmp_path / "r")], "needs NEW, SERVED and --on"),
        (["reward", "show", "learned(folder='nowhere')"], "no card.json there"),
        (["reward", "show", "learned"], "name its folder"),
        (["reward", "show", "sharpness", "--epochs", "3"], "no option --epochs"),
    ]
    for arguments, said in refused:
        assert main(arguments) == 2
        assert said in capsys.readouterr().err


def test_a_damaged_folder_is_one_line(bright: Path, tmp_path: Path) -> None:
    for name in (CARD, WEIGHTS):
        (tmp_path / name).write_bytes((bright / name).read_bytes())
    read(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"damaged")
    read_card(tmp_path)
    (tmp_path / CARD).write_text((bright / CARD).read_text().replace(read_card(bright).weights, "0" * 64))
    with pytest.raises(UserError, match="not the weights that its card names"):
        read(tmp_path)
    (tmp_path / CARD).write_text("{}")
    with pytest.raises(UserError, match="format 1"):
        read(tmp_path)


def test_too_few_prompts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="too few"):
        train_reward(str(collection(tmp_path / "votes", 2, float)), tmp_path / "r", SMALL)
