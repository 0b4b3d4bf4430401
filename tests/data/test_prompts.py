from pathlib import Path

import pytest

from limner.core.errors import UserError
from limner.core.types import Prompt
from limner.data.prompts import PromptFile, read_prompts

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def test_text_files(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    content = "\ufeff# a comment\ntwo red stars  \r\n\n  a blue square\rtwo red stars\n#\nein grüner\u2028Kreis"
    path.write_bytes(content.encode())
    expected = ["two red stars", "a blue square", "two red stars", "ein grüner\u2028Kreis"]
    assert read_prompts(path) == PromptFile([Prompt(text) for text in expected], comments=2)


def test_a_comment_begins_with_a_word_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("#ff0000 circle\n#1 dad mug\n#\tshapes\n# colours\n##\n #")
    assert read_prompts(path) == PromptFile([Prompt("#ff0000 circle"), Prompt("#1 dad mug"), Prompt("##")], comments=3)


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(
        '{"prompt": " two red stars ", "count": 2, "tag": {"shape": "star"}}\n\n'
        '{"text": "a blue square"}\n{"text": "HELLO", "prompt": "a sign\u2028that says HELLO"}\n',
        encoding="utf-8",
    )
    assert read_prompts(str(path)).prompts == [
        Prompt("two red stars", {"count": 2, "tag": {"shape": "star"}}),
        Prompt("a blue square"),
        Prompt("a sign\u2028that says HELLO", {"text": "HELLO"}),
    ]


def test_pictures_that_the_generator_is_given_are_seen_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "first.png").write_bytes(b"")
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "it falls", "inputs": {"image": "first.png"}, "image": "meta"}\n{"prompt": "a"}\n')
    brings, not_ = read_prompts(path).prompts
    assert brings == Prompt("it falls", {"image": "meta"}, {"image": str(tmp_path / "first.png")})
    assert brings.asked == Prompt("it falls", inputs=brings.inputs) != Prompt("it falls") and not not_.inputs


def test_a_clip_to_compare_with_is_seen_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "right.WEBP").write_bytes(b"a clip")
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "it falls", "reference": "right.WEBP"}\n{"prompt": "a", "reference": "a cat"}\n')
    clip, words = read_prompts(path).prompts
    assert clip.meta == {"reference": str(tmp_path / "right.WEBP")} and clip.asked == Prompt("it falls")
    assert clip.reference == tmp_path / "right.WEBP"
    assert words.meta == {"reference": "a cat"} and words.reference is None
    assert Prompt("x", {"reference": ["a.webp"]}).reference is None and Prompt("x", {"reference": 3}).reference is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.txt", None, "no such file"),
        ("folder.txt", "folder", "not a plain file"),
        ("p.csv", b"a", "unknown suffix '.csv'; use .txt (a prompt a line) or .jsonl"),
        ("p", b"a", "unknown suffix ''; use .txt (a prompt a line) or .jsonl"),
        ("p.txt", b"abc\xff", "not UTF-8 text (byte 3)"),
        ("p.txt", b"ab\0c", "a binary file, not UTF-8 text"),
        ("p.txt", POINTER, "a Git LFS pointer, not the file itself; fetch it with: git lfs pull"),
        ("p.jsonl", POINTER, "a Git LFS pointer, not the file itself; fetch it with: git lfs pull"),
        ("p.txt", b"", "the file holds no prompt"),
        ("p.txt", b"# only\n \n", "the file holds no prompt"),
        ("p.jsonl", b"\n\n", "the file holds no prompt"),
        ("p.jsonl", b'{"prompt": "a"}\n\n{"prompt": }', "line 3: not JSON: Expecting value (column 12)"),
        ("p.jsonl", b"two red stars", "line 1: not JSON: Expecting value (column 1)"),
        ("p.jsonl", b'"a"', 'line 1: expected an object like {"prompt": "two red stars"}, got str'),
        ("p.jsonl", b'{"caption": "a", "b": 1}', 'line 1: no key "prompt" or "text" (keys: b, caption)'),
        ("p.jsonl", b'{"prompt": "a", "b": NaN}', "line 1: not JSON that can be read: NaN is no JSON number"),
        ("p.jsonl", b'{"prompt": "a", "reference": "gone.mp4"}', "line 1: reference 'gone.mp4' is no file, seen from"),
        ("p.jsonl", b'{"prompt": "a", "inputs": "first.png"}', 'line 1: inputs must name a file each, as in {"image"'),
        ("p.jsonl", b'{"prompt": "a", "inputs": {"image": 1}}', 'line 1: inputs must name a file each, as in {"image"'),
        (
            "p.jsonl",
            b'{"prompt": "a", "inputs": {"image": "gone.png"}}',
            "line 1: image 'gone.png' is no file, seen from",
        ),
        ("p.jsonl", b'{"b": "\\ud800"}', "line 1: not JSON that can be read: 'utf-8' codec can't encode"),
        ("p.jsonl", b'{"b": ' + b"[" * 10**5, "line 1: not JSON that can be read: maximum recursion depth exceeded"),
        ("p.jsonl", b'{"b": ' + b"1" * 5000 + b"}", "line 1: not JSON that can be read: Exceeds the limit (4300"),
        ("p.jsonl", b"{}", 'line 1: no key "prompt" or "text" (keys: none)'),
        ("p.jsonl", b'{"prompt": 3}', 'line 1: "prompt" must be a text that is not empty, got 3'),
        ("p.jsonl", b'{"text": " "}', "line 1: \"text\" must be a text that is not empty, got ' '"),
    ],
)
def test_errors_name_file_line_and_reason(tmp_path: Path, name: str, content: bytes | str | None, message: str) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "folder":
        path.mkdir()
    with pytest.raises(UserError) as caught:
        read_prompts(path)
    separator = ", " if message.startswith("line") else ": "
    assert str(caught.value).startswith(f"prompts {path}{separator}{message}") and "\n" not in str(caught.value)
