"""Upload a result to the Hugging Face Hub, by its own client."""

from __future__ import annotations

from pathlib import Path

from limner.core.errors import UserError


def push(folder: Path, repo: str, private: bool) -> str:
    """Upload a folder as the model `repo`, NAME or OWNER/NAME, which is made if it is not there; return its address.

    Raises UserError where the Hub cannot be reached, or does not let us.
    """
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    try:
        api = HfApi()
        made = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(repo_id=made.repo_id, folder_path=folder, commit_message="Upload by limner")
        return str(made)
    except HFValidationError as error:
        raise UserError(f"--push {repo!r}: this is no name of a model, such as my-lora or me/my-lora") from error
    except (HfHubHTTPError, LocalTokenNotFoundError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"--push {repo!r}: the Hub refuses ({reason}); log in with `hf auth login`") from error
    except (OSError, httpx2.HTTPError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"--push {repo!r}: the Hub cannot be reached ({reason}); the folder {folder} stands") from error
