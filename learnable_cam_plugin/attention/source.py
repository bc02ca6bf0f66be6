"""An attention from wherever it is: a module, a file, a folder, the hub."""

import os

from .base import AttentionMechanism
from .hub import HUB, local_file


def load_attention(source: AttentionMechanism | str | os.PathLike[str]) -> AttentionMechanism:
    """An attention from a module (returned as it is), a file, a folder, or the Hugging Face hub.

    Only 'hf://owner/name' and 'hf://owner/name@revision' go to the hub (a revision is a branch, a
    tag or, to get the same file for good, a commit hash). Anything else is a path.

    Raises:
        FileNotFoundError: there is no such file or folder; or no such repository, or no way to it.
        CheckpointError: a damaged, altered or foreign file.
        TypeError: `source` is something else.
    """
    if isinstance(source, AttentionMechanism):
        return source
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(
            f"attention must be an attention module, a path or '{HUB}owner/name', got "
            f"{type(source).__name__}"
        )
    if isinstance(source, str) and source.startswith(HUB):
        return AttentionMechanism.from_pretrained(source)
    return AttentionMechanism.load(local_file(source))
