"""What goes wrong between a name and a network, said in words: the library, the name, the way."""

import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import get_session

from ..wording import needed, plain

_WAIT = 5.0  # seconds for an answer


def library(name: str) -> Any:
    """A library of an extra of its own name; else a ModuleNotFoundError that says so."""
    return needed(name, name)[0]


def unknown(what: str, name: str, known: Iterable[str]) -> ValueError:
    """The error that there is no such name, with the closest of those that there are."""
    close = get_close_matches(name, list(known), 5, 0.5)
    hint = f"; did you mean {', '.join(map(repr, close))}?" if close else ""
    return ValueError(f"{what} '{name}'{hint}")


@contextmanager
def downloading(source: str) -> Iterator[None]:
    """For the length of a download: nobody waits for an answer longer than seconds, and its errors
    say what to do."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_WAIT)  # torch.hub sets none
    try:
        yield
    except Exception as error:  # which there are depends on the library, and on its version
        raise ConnectionError(
            f"'{source}' is not on this machine, and was not to be had ({plain(error)}). Connect "
            "to the network once, and it is in the library's cache from then on; or give a local "
            "file for its weights, or 'random' to try things out"
        ) from error
    finally:
        socket.setdefaulttimeout(before)


def from_hub(source: str, get: Callable[[bool], Any]) -> Any:
    """What `get(local_files_only)` finds in the cache of the Hugging Face hub, else on the hub.

    Without a network the hub's own client tries for half a minute a file: it is asked only after
    the hub has answered.

    Raises:
        ConnectionError: it is in neither.
    """
    with downloading(source):
        try:
            return get(True)
        except (OSError, ValueError):  # it is not in the cache, or not whole
            pass
        get_session().head(constants.ENDPOINT, timeout=_WAIT)
        return get(False)


def hub_file(source: str, repository: str, name: str) -> str:
    """The path of a file of a hub's repository; ValueError where there is no such repository."""
    missing: list[Exception] = []

    def get(local: bool) -> str:
        try:
            return hf_hub_download(repository, name, local_files_only=local, etag_timeout=_WAIT)
        except GatedRepoError:
            raise
        except (RepositoryNotFoundError, HFValidationError) as error:
            missing.append(error)
            return ""

    path = from_hub(source, get)
    if missing:
        raise ValueError(
            f"there is no '{repository}' on the Hugging Face hub, for '{source}': look the name up "
            "at https://huggingface.co/models?pipeline_tag=image-classification, or give a local "
            "folder"
        ) from missing[0]
    return path
