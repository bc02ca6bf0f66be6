"""The photographs that a command is given: found, read, and taken some at a time."""

import re
from collections.abc import Iterable, Iterator, Sequence
from glob import glob, has_magic
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TypeVar

from torch import Tensor
from tqdm.auto import tqdm

from ..data import EXTENSIONS, photo_files, read_photo
from ..loading import LoadedClassifier

# package -> the photographs that it ships
_SHIPPED = {
    "skimage": ("data/chelsea.png", "data/coffee.png", "data/rocket.jpg"),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
}
# pictures that the command leaves
_WRITTEN = re.compile(r"explanations(-\d+)?\.png|.+\.\d+\.(overlay|heatmap)\.png")
Item = TypeVar("Item")


def shipped_photos() -> list[Path]:
    """Photographs that scikit-learn and, if it is installed, scikit-image carry."""
    found = []
    for package, names in _SHIPPED.items():
        spec = find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            paths = [Path(spec.submodule_search_locations[0]) / name for name in names]
            found += [path for path in paths if path.is_file()]
    return found


def find_photos(given: Sequence[Path], out: Path | None = None) -> dict[Path, Path]:
    """Each photograph -> its path within the folder that was given, or its name.

    Args:
        given: files, whether they are there or not; folders; patterns, as of `glob`. Without any,
            the photographs that packages ship.
        out: a folder in which pictures of an earlier run are not meant.

    Raises:
        FileNotFoundError: a folder or a pattern without a photograph; or no package ships any.
    """
    found: dict[Path, Path] = {}
    for path in given:
        if path.is_dir():
            found |= _within(path, out)
        elif path.exists() or not has_magic(str(path)):
            found[path] = Path(path.name)
        else:
            matching = [Path(match) for match in sorted(glob(str(path), recursive=True))]
            files = [p for p in matching if p.suffix.lower() in EXTENSIONS and p.is_file()]
            if not files:
                raise FileNotFoundError(f"no photograph matches '{path}'")
            found |= {file: Path(file.name) for file in files}
    found = found if given else {path: Path(path.name) for path in shipped_photos()}
    if not found:
        raise FileNotFoundError(
            "no photographs given, and no package here ships any: name some, or pip install "
            "'learnable-cam-plugin[photos]'"
        )
    return found


def _within(folder: Path, out: Path | None) -> dict[Path, Path]:
    written = None if out is None else out.resolve()

    def own(file: Path) -> bool:
        below = written is not None and file.resolve().is_relative_to(written)
        return below and _WRITTEN.fullmatch(file.name) is not None

    return {file: file.relative_to(folder) for file in photo_files(folder) if not own(file)}


def read_each(
    files: Sequence[Path], loaded: LoadedClassifier, unread: list[str], what: str | None = None
) -> Iterator[tuple[Path, Tensor]]:
    """Each photograph that can be read, for the network; why the others cannot, into `unread`.
    `what` is the name of a bar with an estimate of the time left; None shows none."""
    transform = loaded.transform

    def tensor(path: Path) -> Tensor | None:
        try:
            return transform(read_photo(path, loaded.side))
        except (OSError, ValueError) as error:
            unread.append(str(error))
            return None

    for path in tqdm(files, desc=what, disable=None if what else True):  # nor in a log
        image = tensor(path)
        if image is not None:
            yield path, image


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items in a row, the last shorter: itertools.batched, of Python 3.12."""
    left = iter(items)
    while part := list(islice(left, size)):
        yield part
