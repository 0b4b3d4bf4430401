"""Uploading, with a stand-in for the Hub's client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError

from limner.core.errors import UserError
from limner.report.hub import push


class Made(str):
    repo_id = "me/my-lora"


class Hub:
    """Keeps what it was asked, and fails with `error` if there is one."""

    asked: list[dict[str, Any]] = []
    error: Exception | None = None

    def create_repo(self, repo: str, *, private: bool, exist_ok: bool) -> Made:
        if Hub.error is not None:
            raise Hub.error
        Hub.asked = [{"repo": repo, "private": private, "exist_ok": exist_ok}]
        return Made("https://huggingface.co/me/my-lora")

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
        Hub.asked.append({"repo": repo_id, "files": sorted(path.name for path in folder_path.iterdir())})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[Hub]:
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(Hub, "error", None)
    return Hub


def test_a_folder_is_uploaded_whole(hub: type[Hub], tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("x")
    assert push(tmp_path, "my-lora", private=True) == "https://huggingface.co/me/my-lora"
    made, sent = hub.asked
    assert made == {"repo": "my-lora", "private": True, "exist_ok": True}
    assert sent == {"repo": "me/my-lora", "files": ["README.md"]}


REQUEST = httpx2.Request("POST", "https://huggingface.co/api/repos/create")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            HfHubHTTPError("401 Unauthorized", response=httpx2.Response(401, request=REQUEST)),
            "log in with `hf auth login`",
        ),
        (httpx2.ConnectError("no route"), r"cannot be reached \(no route\); the folder .* stands"),
    ],
)
def test_what_goes_wrong_is_one_line(error: Exception, message: str, hub: type[Hub], tmp_path: Path) -> None:
    hub.error = error
    with pytest.raises(UserError, match=message) as caught:
        push(tmp_path, "me/my-lora", private=False)
    assert "\n" not in str(caught.value)


def test_without_the_hub_the_real_client_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be reached"):
        push(tmp_path, "me/my-lora", private=False)


def test_a_name_that_cannot_be_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no name of a model"):
        push(tmp_path, "my lora/of/mine", private=False)
