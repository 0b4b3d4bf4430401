"""The commands about what says which results are better: a look at it, one learned from people, and a host for it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from limner.commands import words
from limner.commands.parser import AddCommand
from limner.core.errors import RunError, UserError
from limner.core.paths import to_file
from limner.registry.find import find
from limner.registry.names import WORLDS
from limner.report.naming import file_name

VERBS = """show NAME               what it measures, and its best and worst examples
train PAIRS --out DIR   learn one from pairs, rankings or ratings; every key of the training can be set as --KEY VALUE:
                        --epochs 40 --design.kind frozen --design.ties rao_kupper --design.gaussian true --broken skip
promote NEW SERVED --on PAIRS
                        serve NEW at the folder SERVED, if held-out people find it better than what is served there"""


def add_reward_commands(command: AddCommand) -> None:
    """Add `reward` and `serve-reward`."""
    reward = command("reward", _reward, "show a reward, learn one from what people said, or put one to service", VERBS)
    reward.add_argument("verb", metavar="VERB", choices=["show", "train", "promote"], help="show, train or promote")
    reward.add_argument(
        "name", metavar="NAME", help="of show: as in jpeg_size, 'ocr(metric=\"exact\")' or file.py:function"
    )
    reward.add_argument("served", metavar="SERVED", nargs="?", default="", help="of promote: where it is served from")
    reward.add_argument("--world", default="scenes", metavar="WORLD", help="of show: whose media it judges (scenes)")
    reward.add_argument(
        "--count",
        type=words.at_most(10_000),
        default=64,
        help="of show: how many; half of the captions are wrong (64)",
    )
    reward.add_argument("--out", metavar="PATH", help="of show: a .png file; of train: a folder (runs/reward-NAME)")
    reward.add_argument("--on", default="", metavar="PAIRS", help="of promote: votes of others, on other prompts")
    serve = command("serve-reward", _serve_reward, "host a reward over HTTP, for remote(url=...) elsewhere")
    serve.add_argument("reward", metavar="EXPRESSION", help="as in scenes, 'ocr(metric=\"exact\")' or file.py:function")
    serve.add_argument("--host", default="127.0.0.1", help="where to listen (127.0.0.1); beyond it only with a token")
    serve.add_argument("--port", type=words.port, default=8000, help="0: any free one (8000)")
    serve.add_argument("--token-env", default="", metavar="VARIABLE", help="environment variable that holds the token")
    serve.add_argument("--judge-seconds", type=words.count, default=60, metavar="N", help="given to one request (60)")


def _reward(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    if parsed.verb != "promote" and (parsed.served or parsed.on):
        raise UserError(f"reward {parsed.verb} takes one name (see limner reward --help)")
    if parsed.verb == "promote" and parsed.out:
        raise UserError(
            "reward promote has no --out: name the folder to serve from after NEW (see limner reward --help)"
        )
    if parsed.verb != "train" and values:
        raise UserError(f"reward {parsed.verb} has no option --{next(iter(values))} (see limner reward --help)")
    {"show": _show, "train": _train, "promote": _promote}[parsed.verb](parsed, values)


def _show(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    from limner import judges
    from limner.report.gallery import save_grid, strips
    from limner.report.reward_card import extremes, lit, reward_card

    if parsed.out and not parsed.out.endswith(".png"):
        raise UserError(f"argument --out: needs a name that ends in .png, got {parsed.out!r}")
    path = to_file(parsed.out or Path("runs") / f"reward-{file_name(parsed.name)[:60]}.png", "--out")
    if parsed.out and path.exists():
        raise UserError(f"{path} is there already, and nothing is written over: give another --out")
    find(WORLDS, "world", parsed.world)
    composition, specs = judges.described(parsed.name)
    for spec in specs:
        print(reward_card(spec))
    media, prompts = judges.examples(parsed.world, parsed.count)
    output = composition(media, prompts)
    shown, frames = extremes(output.score, 8), media.frames()
    what, rows = ("pictures", 2) if frames.shape[1] == 1 else ("clips", 4)
    if not len(shown):
        raise RunError(f"{parsed.name} judged none of {parsed.count} {what} of {parsed.world}")
    labels = [f"{output.score[i]:.3g}  {prompts[i].text}" for i in shown.tolist()]
    print(f"\nbest and worst of {parsed.count} {what} of {parsed.world}: {path}")
    pictures, columns = media.stills()[shown], max(1, len(labels) // rows)
    save_grid(path, strips(frames[shown]), labels, columns)
    for label, row in zip(labels, shown.tolist(), strict=True):
        if output.explanation and output.explanation[row]:
            print(f"  {label}: {words.line(str(output.explanation[row]))}")
    for name, maps in output.maps.items():
        place = path.with_stem(f"{path.stem}-{file_name(name)}")
        save_grid(place, lit(pictures, maps[shown]), labels, columns)
        print(f"bright where {name} is high: {place}")


def _train(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    from limner.reward_models import REPORT, train_reward

    folder = train_reward(parsed.name, parsed.out or Path("runs") / f"reward-{Path(parsed.name).stem}", values)
    print(f"{folder / REPORT}\nit is the reward learned(folder='{folder}')")


def _promote(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    from limner.reward_models import promote

    if not parsed.served or not parsed.on:
        raise UserError("reward promote needs NEW, SERVED and --on PAIRS (see limner reward --help)")
    print(promote(parsed.name, parsed.served, parsed.on))


def _serve_reward(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    from limner import judges

    judges.serve_reward(parsed.reward, parsed.host, parsed.port, parsed.token_env, parsed.judge_seconds)
