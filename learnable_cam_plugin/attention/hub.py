"""Where an attention file is: on the disk, or, if that is asked for, on the Hugging Face hub."""

import os
import re
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ..checkpoint import is_ours

WEIGHTS_FILE = "model.safetensors"
HUB = "hf://"


def local_file(source: str | os.PathLike[str]) -> Path:
    """The file at a path, or in the folder there, or in the folder `attention` in it, as a training
    leaves it; FileNotFoundError, with no request, if none."""
    if not str(source):
        raise FileNotFoundError("no attention at '': the path is empty, name a file or a folder")
    path = Path(source)
    if path.is_dir():
        path = path / WEIGHTS_FILE
        if not path.exists() and (trained := path.parent / "attention" / WEIGHTS_FILE).exists():
            path = trained  # the folder of a training
    if not os.path.exists(path):
        hub = f". For the Hugging Face hub write '{HUB}{source}'"
        raise FileNotFoundError(
            f"no attention at '{source}': there is no {os.path.abspath(path)}"
            f"{hub if _is_repository(str(source)) else ''}"
        )
    return path


def check_folder(folder: Path) -> None:
    """FileExistsError for a folder that holds another model's files, which are named as ours."""
    weights, config = folder / WEIGHTS_FILE, folder / "config.json"
    if is_ours(weights):
        return
    ours = '"mechanism"' in _start(config)
    # where git-lfs has put a pointer, or nothing was written yet
    empty = not weights.exists() or _start(weights)[:8] in ("", "version ")
    if not (ours and empty) and (weights.exists() or config.exists()):
        found = (weights if weights.exists() else config).name
        raise FileExistsError(
            f"{folder} holds a {found} that is no attention's, which would be overwritten: choose "
            "another folder"
        )


def _start(path: Path) -> str:
    """What a text file starts with; "\\0" of one that is none, or is not there."""
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.read(100_000)
    except (OSError, UnicodeDecodeError):
        return "\0"


def source_name(source: str | None) -> str | None:
    """An attention's `source` as others may see it: of a file on this machine its name alone.

    >>> source_name("/home/me/mine.safetensors"), source_name("hf://me/mine@1f")
    ('mine.safetensors', 'hf://me/mine@1f')
    """
    return source if source is None or source.startswith(HUB) else Path(source).name


def names_the_hub(name: str | os.PathLike[str]) -> bool:
    """Whether `from_pretrained(name)` asks the hub: 'hf://...', or 'owner/name' that can be no path
    here, since there is no folder 'owner'."""
    if not isinstance(name, str):
        return False
    if name.startswith(HUB):
        return True
    is_file = name.endswith(".safetensors") or os.path.isdir(os.path.dirname(name))
    return _is_repository(name) and not is_file


def hub_file(name: str, revision: str | None = None, **download: Any) -> tuple[Path, str]:
    """Download from the hub, or find in its cache, an attention file.

    Args:
        name: 'owner/name', 'hf://owner/name' or 'hf://owner/name@revision'.
        revision: a branch, a tag or a commit hash; the newest commit unless it is given.
        download: as of `hf_hub_download`: cache_dir, force_download, local_files_only, token.

    Returns:
        the file, and where it is for good: 'hf://owner/name@<commit hash>'.

    Raises:
        ValueError: another spelling, or two revisions.
        FileNotFoundError: there is no such repository or file, or no way to it.
    """
    repository, _, named = name.removeprefix(HUB).partition("@")
    if not _is_repository(repository) or name.endswith("@"):
        raise ValueError(
            f"a hub repository is '{HUB}owner/name' or '{HUB}owner/name@revision', got '{name}'"
        )
    if named and revision not in (None, named):
        raise ValueError(f"two revisions are asked for: '{name}' and revision={revision!r}")
    revision = named or revision
    try:
        path = Path(hf_hub_download(repository, WEIGHTS_FILE, revision=revision, **download))
    except Exception as error:  # which there are depends on the version of huggingface_hub
        at = f"@{revision}" if revision else ""
        raise FileNotFoundError(
            f"no attention at '{HUB}{repository}{at}': not to be had from the Hugging Face hub "
            f"({type(error).__name__}: {' '.join(str(error).split())})"
        ) from error
    # <cache>/models--owner--name/snapshots/<commit hash>/model.safetensors
    commit = path.parent.name
    if not re.fullmatch("[0-9a-f]{40}", commit):
        raise FileNotFoundError(f"{path} does not say which commit of '{repository}' it is of")
    return path, f"{HUB}{repository}@{commit}"


def _is_repository(name: str) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return name.count("/") == 1
