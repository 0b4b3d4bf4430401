from pathlib import Path

import pytest

from limner.core.errors import UserError
from limner.core.types import Prompt
from limner.data.prompts import read_prompts


def test_text_files(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    content = "\ufeff# a comment\ntwo red stars  \r\n\n  a blue square\ntwo red stars\n#\nein grüner Kreis"
    path.write_bytes(content.encode())
    expected = ["two red stars", "a blue square", "two red stars", "ein grüner Kreis"]
    assert read_prompts(path) == [Prompt(text) for text in expected]


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(
        '{"prompt": " two red stars ", "count": 2, "tag": {"shape": "star"}}\n\n'
        '{"text": "a blue square"}\n{"text": "HELLO", "prompt": "a sign\u2028that says HELLO"}\n',
        encoding="utf-8",
    )
    assert read_prompts(str(path)) == [
        Prompt("two red stars", {"count": 2, "tag": {"shape": "star"}}),
        Prompt("a blue square"),
        Prompt("a sign\u2028that says HELLO", {"text": "HELLO"}),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.txt", None, "no such file"),
        ("folder.txt", "folder", "cannot read it: Is a directory"),
        ("p.csv", b"a", "unknown suffix '.csv'; use .txt (a prompt a line) or .jsonl"),
        ("p", b"a", "unknown suffix ''; use .txt (a prompt a line) or .jsonl"),
        ("p.txt", b"abc\xff", "not UTF-8 text (byte 3)"),
        ("p.txt", b"ab\0c", "a binary file, not UTF-8 text"),
        ("p.txt", b"", "the file holds no prompt"),
        ("p.txt", b"# only\n \n", "the file holds no prompt"),
        ("p.jsonl", b"\n\n", "the file holds no prompt"),
        ("p.jsonl", b'{"prompt": "a"}\n\n{"prompt": }', "line 3: not JSON: Expecting value (column 12)"),
        ("p.jsonl", b"two red stars", "line 1: not JSON: Expecting value (column 1)"),
        ("p.jsonl", b'"a"', 'line 1: expected an object like {"prompt": "two red stars"}, got str'),
        ("p.jsonl", b'{"caption": "a", "b": 1}', 'line 1: no key "prompt" or "text" (keys: b, caption)'),
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
    assert str(caught.value) == f"prompts {path}{separator}{message}"
