"""The command line. Nothing here imports torch before a command needs it: `limner --help` is instant.

Bad input, a reward that raises too, is one line on stderr and exit code 2 (LIMNER_DEBUG=1 adds a traceback); a run
that had to stop is one line and 1; Ctrl-C is 130.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from limner import words
from limner.completion import SHELLS, answer, shell_code
from limner.core.errors import BrokenReward, RunError, UserError, nearest
from limner.core.paths import to_file, to_folder
from limner.preference_commands import add_preference_commands
from limner.report.naming import file_name, free

KEYS = """Every key of the configuration can be set as --KEY VALUE, nested ones with dots:
  --steps 40 --sampler.steps 8 --optimizer.lr 1e-3 --algorithm DiffusionNFT --algorithm.beta 0.5
`limner keys RECIPE` lists them with their meaning, `limner list` names recipes, rewards, algorithms and models."""
LISTED_KEYS = """Keys that are set here choose whose keys are listed, as in: limner keys scenes --algorithm FlowGRPO"""
PRETRAINING_KEYS = """Every key of the pretraining can be set as --KEY VALUE:
  --steps 8000 --batch 128 --lr 3e-3 --noisy-share 0.3 --seed 0"""

SHELL_SETUP = """In bash, for this session, and for all in ~/.bashrc:  eval "$(limner completion bash)"
In zsh likewise, after compinit; in fish:  limner completion fish | source"""

RECIPE = frozenset({"--help", "--preset", "--reward", "--prompts", "--seed", "--out"})
OWN_FLAGS = {"check": RECIPE, "keys": RECIPE, "pretrain": frozenset({"--help", "--out"})}
OWN_FLAGS["train"] = RECIPE | {"--resume", "--accept-changes", "--quiet"}
"""The commands that take keys of a configuration, and the flags of theirs that are no keys."""

SAMPLE_FILE = "such as x.png, of several a sheet beside x-SEED.png (RUN/samples/PROMPT-SEED.png)"

DEBUG = "LIMNER_DEBUG"
"""Environment variable: where it is set, a complaint about a user's input is shown with where it came from."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one line, raised."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command and return its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(arguments)
    except (UserError, BrokenReward) as error:
        if os.environ.get(DEBUG):
            traceback.print_exception(error)
        return _fail(2, str(error))
    except RunError as error:
        return _fail(1, str(error))
    except KeyboardInterrupt:
        return _fail(130, f"interrupted{_continuation(arguments)}")
    except BrokenPipeError:  # whoever read our output has left, as in `limner list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # a disk that is full, a folder that became read-only; of anything else it is a bug
        if error.filename is None:
            raise
        return _fail(1, f"{error.filename}: {error.strerror}")
    except MemoryError as error:
        return _fail(1, f"not enough memory: {error}; lower what is done at once, as with --micro-batch")


def _fail(code: int, message: str) -> int:
    print(f"limner: {words.line(message)}", file=sys.stderr)
    return code


def _continuation(arguments: Sequence[str]) -> str:
    """Return how an interrupted command goes on."""
    command = shlex.join(["limner", *arguments])
    match arguments[:1]:
        case ["train"]:
            return f"; continue with: {command}{'' if '--resume' in arguments else ' --resume'}"
        case ["pretrain" | "pairs"]:
            return f"; continue with: {command}"
    return ""


def _run(arguments: list[str]) -> int:
    parser, commands = _parsers()
    answer(parser, commands, ("train", "check", "keys"))
    if not arguments:
        parser.print_help()
        return 0
    if arguments == ["--version"]:
        import importlib.metadata

        print(f"limner {importlib.metadata.version('limner')}")
        return 0
    name = arguments[0]
    if not name.startswith("-") and name not in commands:
        raise UserError(f"unknown command {name!r}{nearest(name, commands)}")
    values: dict[str, Any] = {}
    if name in OWN_FLAGS:
        arguments, values = take_keys(arguments, OWN_FLAGS[name])
    parsed = parser.parse_args(arguments)
    action: Callable[[argparse.Namespace, dict[str, Any]], None] = parsed.action
    action(parsed, values)
    return 0


def take_keys(arguments: Sequence[str], own: frozenset[str]) -> tuple[list[str], dict[str, Any]]:
    """Split off every `--key value`, `--key=value` and bare `--key` (True) whose flag is not in `own`."""
    rest: list[str] = []
    values: dict[str, Any] = {}
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        flag, equals, value = word.partition("=")
        if not flag.startswith("--") or flag == "--" or flag in own:
            rest.append(word)
            continue
        has_value = not equals and bool(waiting) and not waiting[0].startswith("--")
        values[flag[2:].replace("-", "_")] = value if equals else waiting.pop(0) if has_value else True
    return rest, values


def _parsers() -> tuple[Parser, Mapping[str, Parser]]:
    parser = Parser(prog="limner", description="Reinforcement learning for visual generative models.")
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser, required=True)
    made: dict[str, Parser] = {}

    def command(name: str, action: Callable[..., None], help: str, epilog: str | None = None) -> Parser:
        made[name] = commands.add_parser(
            name,
            help=help,
            description=help[0].upper() + help[1:] + ".",
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made[name].set_defaults(action=action)
        return made[name]

    _add_training_commands(command)
    sample = command("sample", _sample, "draw pictures from a finished run")
    sample.add_argument("run", metavar="RUN", type=Path, help="a run folder")
    sample.add_argument("prompt", metavar="PROMPT", type=words.prompt)
    sample.add_argument("--count", type=words.count, default=1, help="how many (1)")
    sample.add_argument("--seed", type=words.whole, default=0, help="the same seed draws the same pictures (0)")
    sample.add_argument("--steps", type=words.count, help="denoising steps (the run's)")
    sample.add_argument("--guidance", type=words.number, help="guidance scale (the run's)")
    sample.add_argument("--out", type=Path, metavar="FILE", help=SAMPLE_FILE)

    _add_trust(sample)

    report = command("report", _report, "write a run's report.html again from its records")
    report.add_argument("run", metavar="RUN", type=Path, help="a run folder")
    _add_trust(report)
    export = command("export", _export, "write a run's result for diffusers to load")
    export.add_argument("run", metavar="RUN", type=Path, help="a run folder")
    export.add_argument("--out", type=Path, metavar="DIR", help="a folder (RUN/export)")
    export.add_argument(
        "--push", default="", metavar="REPO", help="upload it to the Hugging Face Hub: NAME or OWNER/NAME"
    )
    export.add_argument("--private", action="store_true", help="a repository that --push makes is not for everyone")
    _add_trust(export)
    pretrain = command(
        "pretrain", _pretrain, "train a world's base model from nothing; goes on where it stopped", PRETRAINING_KEYS
    )
    pretrain.add_argument("world", metavar="WORLD", help="scenes, words or emoji")
    pretrain.add_argument("--out", type=Path, metavar="DIR", help="a folder (runs/pretrain-WORLD-MODEL)")
    bench = command("bench", _bench, "measure the algorithms against what is known exactly; done rows are kept")
    bench.add_argument("name", metavar="NAME", choices=["oracles", "scenes"], help="oracles or scenes")
    bench.add_argument("--seeds", type=words.count, help="how many (oracles 5; scenes 3 of the best, 1 of others)")
    bench.add_argument(
        "--budget", type=words.count, default=65_000, metavar="N", help="evaluations a run of scenes (65000)"
    )
    bench.add_argument("--entry", action="append", default=[], metavar="NAME", help="only this one; several times")
    bench.add_argument("--out", type=Path, default=Path("docs/results"), metavar="DIR", help="a folder (docs/results)")
    _add_reward_commands(command)
    add_preference_commands(command)
    command("list", _list, "name the recipes, rewards, algorithms and models")
    completion = command("completion", _completion, "print what makes a shell complete limner's commands", SHELL_SETUP)
    completion.add_argument("shell", metavar="SHELL", choices=SHELLS, help=", ".join(SHELLS))
    return parser, made


def _add_training_commands(command: Callable[..., Parser]) -> None:
    train = command("train", _train, "train by a recipe, and write a run folder with a report", KEYS)
    _add_recipe(train)
    train.add_argument("--resume", action="store_true", help="go on from the last checkpoint in the run folder")
    train.add_argument("--accept-changes", action="store_true", help="resume though prompts, rewards or base changed")
    train.add_argument("--quiet", action="store_true", help="no progress line")
    _add_recipe(command("check", _check, "tell what a training would do and cost, and write nothing", KEYS))
    keys = command("keys", _keys, "list all keys of a configuration: what each is, takes and means", LISTED_KEYS)
    _add_recipe(keys)
    keys.add_argument("word", metavar="WORD", nargs="?", default="", help="only keys with this in their name")


def _add_reward_commands(command: Callable[..., Parser]) -> None:
    reward = command("reward", _reward, "show a reward: what it measures, and its best and worst examples")
    reward.add_argument("verb", metavar="show", choices=["show"])
    reward.add_argument("name", metavar="NAME", help="as in jpeg_size, 'ocr(metric=\"exact\")' or file.py:function")
    reward.add_argument("--world", default="scenes", metavar="WORLD", help="whose pictures it judges (scenes)")
    reward.add_argument(
        "--count", type=words.count, default=64, help="how many pictures; half of the captions are wrong (64)"
    )
    reward.add_argument("--out", type=words.png, metavar="FILE", help="a .png file (runs/reward-NAME.png)")
    serve = command("serve-reward", _serve_reward, "host a reward over HTTP, for remote(url=...) elsewhere")
    serve.add_argument("reward", metavar="EXPRESSION", help="as in scenes, 'ocr(metric=\"exact\")' or file.py:function")
    serve.add_argument("--host", default="127.0.0.1", help="where to listen (127.0.0.1); beyond it only with a token")
    serve.add_argument("--port", type=words.port, default=8000, help="0: any free one (8000)")
    serve.add_argument("--token-env", default="", metavar="VARIABLE", help="environment variable that holds the token")
    serve.add_argument("--judge-seconds", type=words.count, default=60, metavar="N", help="given to one request (60)")


def _add_recipe(parser: Parser) -> None:
    parser.add_argument(
        "recipe", metavar="RECIPE", help="a name, a .py file with a function recipe(), or a config.yaml"
    )
    parser.add_argument("--preset", metavar="NAME", help="settings of a published method, see `limner list`")
    parser.add_argument(
        "--reward",
        action="append",
        metavar="EXPRESSION",
        help="as in jpeg_size, file.py:function or '0.7 * scenes - 0.1 * jpeg_size'",
    )
    parser.add_argument("--prompts", metavar="FILE", help="prompts: .txt, one a line, or .jsonl")
    parser.add_argument("--seed", metavar="N", help="seed of everything that is random")
    parser.add_argument("--out", metavar="DIR", help="the run folder (runs/NAME-SEED)")


def _add_trust(parser: Parser) -> None:
    parser.add_argument(
        "--trust-code", action="store_true", help="run code outside limner that RUN's config.yaml names"
    )


def _config(parsed: argparse.Namespace, values: Mapping[str, Any]) -> Any:
    """Return the recipe's configuration with what the command line changes; other rewards are evaluated as well."""
    from limner.recipes.named import recipe
    from limner.recipes.override import override
    from limner.recipes.presets import with_preset

    if parsed.reward and len(parsed.reward) > 1:
        raise UserError(f"--reward is one expression: write --reward '{' + '.join(parsed.reward)}'")
    given = {
        "prompts": parsed.prompts,
        "seed": parsed.seed,
        "out": parsed.out,
        "reward": parsed.reward and parsed.reward[0],
    }
    if parsed.reward:
        values = {"evaluation.reward": "", **values}
    values = {**values, **{k: v for k, v in given.items() if v is not None}}
    config = recipe(parsed.recipe)
    return with_preset(config, parsed.preset, values) if parsed.preset is not None else override(config, values)


def _train(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    from limner import run

    config = _config(parsed, values)
    done = run.train(config, resume=parsed.resume, quiet=parsed.quiet, accept_changes=parsed.accept_changes)
    if done.leads:
        print(done.folder / "report.html")


def _check(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    from limner import run

    config = _config(parsed, values)
    print(run.check(config).text(config))


def _keys(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    from limner.recipes.keys import keys, text

    print(text(keys(_config(parsed, values), parsed.word)))


def _completion(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    print(shell_code(parsed.shell))


def _sample(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    """Write a file a sample, and of several a sheet of stills as well."""
    from limner.report.gallery import save_grid
    from limner.run import open_run

    run = open_run(parsed.run, parsed.trust_code)
    if parsed.out and parsed.out.suffix not in run.suffixes:
        raise UserError(f"--out needs a name that ends in {' or '.join(run.suffixes)}, got {str(parsed.out)!r}")
    suffix = parsed.out.suffix if parsed.out else run.suffixes[0]
    stem = parsed.out.with_suffix("") if parsed.out else parsed.run / "samples" / file_name(parsed.prompt)
    seeds = range(parsed.seed, parsed.seed + parsed.count)
    sheet, paths = free(stem, seeds, suffix, named=parsed.out is not None)
    paths = [to_file(path, "--out") for path in paths]
    media = run.sample(parsed.prompt, parsed.count, parsed.seed, parsed.steps, parsed.guidance)
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    media.save(paths)
    if sheet is not None:
        save_grid(sheet, media.stills(), [f"seed {seed}" for seed in seeds], columns=min(parsed.count, 8))
    print(sheet or paths[0])


def _report(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    from limner.run import open_run

    print(open_run(parsed.run, parsed.trust_code).report())


def _export(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    from limner.run import open_run

    print(open_run(parsed.run, parsed.trust_code).export(parsed.out, parsed.push, parsed.private))


def _pretrain(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    from limner import build

    build.pretrain(parsed.world, parsed.out and to_folder(parsed.out, "--out"), values)


def _bench(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    to_folder(parsed.out, "--out")
    if parsed.name == "oracles":
        from limner.bench import oracle_report

        print(oracle_report.bench(parsed.out, parsed.seeds or 5, parsed.entry))
    else:
        from limner.bench import scenes

        print(scenes.bench(parsed.out, parsed.seeds, parsed.budget, parsed.entry))


def _reward(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    from limner import judges
    from limner.report.gallery import save_grid
    from limner.report.reward_card import extremes, lit, reward_card

    path = to_file(parsed.out or Path("runs") / f"reward-{file_name(parsed.name)[:60]}.png", "--out")
    composition, specs = judges.described(parsed.name)
    for spec in specs:
        print(reward_card(spec))
    media, prompts = judges.examples(parsed.world, parsed.count)
    output = composition(media, prompts)
    shown = extremes(output.score, 8)
    if not len(shown):
        raise RunError(f"{parsed.name} judged none of {parsed.count} pictures of {parsed.world}")
    labels = [f"{output.score[i]:.3g}  {prompts[i].text}" for i in shown.tolist()]
    print(f"\nbest and worst of {parsed.count} pictures of {parsed.world}: {path}")
    pictures, columns = media.stills()[shown], max(1, len(labels) // 2)
    save_grid(path, pictures, labels, columns)
    for name, maps in output.maps.items():
        place = path.with_stem(f"{path.stem}-{file_name(name)}")
        save_grid(place, lit(pictures, maps[shown]), labels, columns)
        print(f"bright where {name} is high: {place}")


def _serve_reward(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    from limner import judges

    judges.serve_reward(parsed.reward, parsed.host, parsed.port, parsed.token_env, parsed.judge_seconds)


def _list(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    from limner.registry.catalogue import catalogue

    for kind, entries in catalogue().items():
        print(kind)
        width = max(map(len, entries), default=0)
        for name, line in entries.items():
            print(f"  {name:<{width}}  {line}")
