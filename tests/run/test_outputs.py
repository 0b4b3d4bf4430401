"""Where a command is to write: what is in the way, or may not be written to, is one line, and stays as it is."""

from __future__ import annotations

import os
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from fuzzing import contents
from limner.cli import main
from limner.feedback.tables import opened
from limner.recipes.yaml import to_yaml
from run.miniature import Miniature

CASES = {
    "sample run star --out file/x.png": "--out: file cannot be made: file is a file; choose another with --out",
    "sample run star --out folder": "--out needs a name that ends in .png, got 'folder'",
    "sample run star --out=": "--out needs a name that ends in .png, got '.'",
    "sample run star --out dir.png": "--out: dir.png is a folder; choose another name",
    "sample run star --out taken.png": "taken.png is there already, and nothing is written over: give another --out",
    "sample run star --out locked/x.png": "--out: locked may not be written to; choose another with --out",
    "sample run star --out locked/a/b/x.png": "--out: locked may not be written to; choose another with --out",
    "sample run star --out {long}.png": "--out: cannot look at 'aaaa",
    "sample run star --count 1001": "argument --count: needs a whole number from 1 to 1000, got '1001'",
    "sample run star --steps 1000000000": "argument --steps: needs a whole number from 1, got '1000000000'",
    "sample run star --steps 999999999": "Sampler: steps must be at least 1 and at most 10000, got 999999999",
    "sample run star --guidance nan": "Sampler: guidance must be at least -1000 and at most 1000, got nan",
    "sample run ''": "argument PROMPT: needs a text in UTF-8 that is not empty, got ''",
    "sample file star": "file is no run folder: it has no config.yaml",
    "export run --out file": "--out: file cannot be made: file is a file; choose another with --out",
    "export run --out file/x": "--out: file/x cannot be made: file is a file; choose another with --out",
    "export run --out folder": "folder holds note and is no earlier export; choose another folder with --out",
    "export run --out project": "project holds README.md and is no earlier export; choose another folder with --out",
    "export run --out run": "run holds .lock and is no earlier export; choose another folder with --out",
    "export run --out locked": "--out: locked may not be written to; choose another with --out",
    "export run --out dangling": "--out: dangling cannot be made: dangling is no folder; choose another with --out",
    "export run --out folder --push 'no name'": "folder holds note and is no earlier export",
    "export folder --out new": "folder is no run folder: it has no config.yaml",
    "reward show jpeg_size --out file": "argument --out: needs a name that ends in .png, got 'file'",
    "reward show jpeg_size --out dir.png": "--out: dir.png is a folder; choose another name",
    "reward show jpeg_size --out taken.png": "taken.png is there already, and nothing is written over",
    "reward show jpeg_size --out file/x.png": "--out: file cannot be made: file is a file; choose another with --out",
    "reward show jpeg_size --out locked/x.png": "--out: locked may not be written to; choose another with --out",
    "reward show jpeg_size --count 10001": "argument --count: needs a whole number from 1 to 10000, got '10001'",
    "reward show jpeg_size --world nowhere": "unknown world 'nowhere'",
    "reward show jpg_size": "unknown reward 'jpg_size'; did you mean 'jpeg_size'?",
    "reward hide jpeg_size": "argument VERB: invalid choice: 'hide'",
    "bench oracles --out file": "--out: file cannot be made: file is a file; choose another with --out",
    "bench scenes --out file/x": "--out: file/x cannot be made: file is a file; choose another with --out",
    "bench oracles --out locked": "--out: locked may not be written to; choose another with --out",
    "bench oracles --out folder --entry nothing": "unknown entry 'nothing'",
    "bench oracles --out foreign --entry DDPO": "foreign/oracles.json is not what was measured here",
    "bench scenes --out foreign --entry DDPO": "foreign/scenes.csv is not what was measured here",
    "bench oracles --seeds 1001": "argument --seeds: needs a whole number from 1 to 1000, got '1001'",
    "pretrain scenes --out file": "--out: file cannot be made: file is a file; choose another with --out",
    "pretrain scenes --out run": "run/config.yaml is of something else; choose another folder with --out",
    "pretrain scenes --out foreign": "foreign/config.yaml is of something else; choose another folder with --out",
    "pretrain scnes": "unknown world 'scnes'; did you mean 'scenes'?",
    "pretrain scenes --steps 1000000000": "Pretraining: steps must be at least 1 and at most 100000000",
    "pairs make run --out file": "--out: file cannot be made: file is a file; choose another with --out",
    "pairs make run --out folder": "folder holds note and is no folder of pairs; choose another with --out",
    "pairs make run --out run": "run holds .lock and is no folder of pairs; choose another with --out",
    "pairs make run --out locked/x": "--out: locked may not be written to; choose another with --out",
    "pairs make nowhere": "model: nowhere is not a folder (it does not exist)",
    "pairs make run nowhere": "model: nowhere is not a folder (it does not exist)",
    "pairs make run --prompts nowhere.txt --out new": "prompts nowhere.txt: no such file",
    "pairs make run --reward jpg_size --out new": "unknown reward 'jpg_size'; did you mean 'jpeg_size'?",
    "annotate nowhere": "nowhere: no such folder; give a run, a folder with pictures, or a .jsonl with pairs",
    "annotate file": "file: no folder; give a run, a folder with pictures, or a .jsonl with pairs",
    "annotate nowhere.jsonl": "pairs nowhere.jsonl: no such file",
    "annotate folder": "folder: no two pictures of one prompt there, so there is nothing to compare",
    "annotate run": "run run: its before pictures are not there yet; let the run end first",
    "annotate pictures --port 99999": "argument --port: needs a whole number from 0 to 65535, got '99999'",
    "annotate pictures --port {busy}": "cannot listen at 127.0.0.1 port",
    "annotate pictures --host nowhere.invalid": "cannot listen at nowhere.invalid port 8000",
    "annotate pictures --questions a,a": "--questions needs different names with commas between, got 'a,a'",
    "annotate pictures --invite 1000000": "argument --invite: needs a whole number from 1 to 1000",
    "annotate broken/pairs.jsonl --port 0": "picture ",
    "annotate latin --port 0": "caption latin/a.txt: not UTF-8 text (byte 1)",
    "annotate pictures --port 0 --database nonsense": "the votes at 'nonsense' cannot be opened",
    "annotate pictures --port 0 --database nonsense://x": "the votes at 'nonsense://x' cannot be opened",
    "annotate pictures --port 0 --database sqlite:////nowhere/x/y.db": "the votes at 'sqlite:////nowhere/x/y.db' can",
    "annotate pictures --port 0 --database sqlite:///taken.png": "the votes at 'sqlite:///taken.png' cannot be opened",
    "train recipe.yaml --out locked/x": "out: locked may not be written to; choose another with --out",
    "train recipe.yaml --out /proc/x/run": "out: /proc/x/run cannot be made or written: No such file or directory; ch",
    "check recipe.yaml --out /proc/x": "out: /proc/x cannot be made or written: No such file or directory; choose",
    "check recipe.yaml --out /proc": "out: /proc cannot be made or written: ",
    "export run --out /proc/x": "--out: /proc/x cannot be made or written: No such file or directory; choose",
    "train recipe.yaml --out dangling": "out: dangling cannot be made: dangling is no folder; choose another",
    "report folder": "folder is no run folder: it has no config.yaml",
    "report file": "file is no run folder: it has no config.yaml",
    "serve-reward jpg_size": "unknown reward 'jpg_size'; did you mean 'jpeg_size'?",
    "serve-reward 'rank(jpeg_size)'": "host a reward that scores each picture by itself",
    "serve-reward jpeg_size --port {busy}": "cannot listen at 127.0.0.1 port",
    "serve-reward jpeg_size --host 0.0.0.0": "host '0.0.0.0' can be reached from other machines: give a token",
    "serve-reward jpeg_size --token-env NOTHING_OF_THIS_NAME": "--token-env NOTHING_OF_THIS_NAME: that environment",
    "serve-reward jpeg_size --judge-seconds 0": "argument --judge-seconds: needs a whole number from 1, got '0'",
    "completion cmd": "argument SHELL: invalid choice: 'cmd'",
    "keys nowhere": "unknown recipe 'nowhere'",
    "keys scenes --steps x": "--steps needs an integer, got 'x'",
    "keys scenes nothing_has_this": "no key has 'nothing_has_this' in its name",
}  # fmt: skip


@pytest.fixture(scope="module")
def place(miniature: Miniature, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, and what stands in the way of others."""
    folder = tmp_path_factory.mktemp("place")
    for name, text in {
        "file": "",
        "folder/note": "mine",
        "project/README.md": "# Mine",
        "foreign/oracles.json": '[{"entry": 1}]',
        "foreign/scenes.csv": "a,b\n1,2\n",
        "foreign/config.yaml": "- 1\n",
        "latin/b.txt": "a star",
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    for name in ("locked", "dir.png", "broken", "pictures", "empty"):
        (folder / name).mkdir()
    Image.new("RGB", (4, 4)).save(folder / "taken.png")
    for i in range(4):
        Image.new("RGB", (4, 4), (50 * i, 0, 0)).save(folder / f"pictures/{i}.png")
    for i in range(9):
        (folder / f"broken/{i}.png").write_bytes(b"no picture")
    pairs = '{"prompt": "star", "media_a": "%d.png", "media_b": "%d.png"}\n'
    (folder / "broken/pairs.jsonl").write_text("".join(pairs % (i, i + 1) for i in range(8)))
    Image.new("RGB", (4, 4)).save(folder / "latin/a.png")
    (folder / "latin/a.txt").write_bytes(b"a\xe9")
    (folder / "dangling").symlink_to("nowhere")
    recipe = folder / "recipe.yaml"
    recipe.write_text(to_yaml(miniature.config(folder / "run", steps=1)).replace(str(folder / "run"), "run"))
    back = Path.cwd()
    os.chdir(folder)
    try:
        assert main(["train", "recipe.yaml", "--quiet"]) == 0
    finally:
        os.chdir(back)
    return folder


@pytest.fixture(autouse=True)
def locked(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder `locked` may not be written to, whoever runs the tests."""
    access = os.access
    monkeypatch.chdir(place)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "locked" and access(path, mode))


@pytest.fixture(scope="module")
def busy() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("command", CASES)
def test_what_is_in_the_way(command: str, place: Path, busy: int, capsys: pytest.CaptureFixture[str]) -> None:
    if "/proc" in command and not Path("/proc/self").exists():
        pytest.skip("this system shows no processes as files")
    before = contents(place)
    assert main(shlex.split(command.format(busy=busy, long="a" * 5000))) == 2
    printed = capsys.readouterr()
    assert CASES[command] in printed.err and printed.err.startswith("limner: ") and len(printed.err) < 1100
    assert printed.err.count("\n") == 1 and not printed.out
    assert contents(place) == before


def test_what_is_not_there_is_made(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Parents too; an export goes over an earlier one, and into an empty folder, and over nothing else."""
    assert main("sample run star --steps 2 --out new/a/x.png".split()) == 0
    for target in ("new/b/export", "empty"):
        assert main(["export", "run", "--out", target]) == 0 == main(["export", "run", "--out", target])
        assert (place / target / "README.md").is_file()
    assert main("reward show jpeg_size --count 4 --out new/c/card.png".split()) == 0
    assert (place / "new/a/x.png").is_file() and (place / "new/c/card.png").is_file()
    capsys.readouterr()


def test_many_samples_are_drawn_in_passes(place: Path) -> None:
    """As many as the run's micro_batch at once: those of 11 are those of 8 and of 3."""
    from limner.run import open_run

    run = open_run("run")
    assert run.config.micro_batch == 8
    several, last = run.sample("star", count=11, steps=2), run.sample("star", count=3, seed=8, steps=2)
    assert len(several.stills()) == 11 and list(several.seeds) == list(range(11))
    assert several.stills()[8:].equal(last.stills())


def test_a_database_that_cannot_be(place: Path) -> None:
    from limner.core.errors import UserError

    for url in (
        "",
        "x",
        "sqlite:///a\0",
        "sqlite:///\ud800",
        "postgresql+nothing://x",
        "://",
        "sqlite+pysqlite:////nowhere/x",
    ):
        with pytest.raises(UserError, match="cannot be opened"):
            opened(url)
