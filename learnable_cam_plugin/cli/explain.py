"""`learnable-cam explain`: photographs beside Grad-CAM, on pages; how every command finds them."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from glob import glob, has_magic
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..cam import LearnableCAM
from ..checkpoint import atomic_path
from ..classifier import class_scores, device_of, probabilities
from ..comparison import class_maps, grad_cam, picture
from ..data import EXTENSIONS, photo_files, read_photo
from ..loading import LoadedClassifier
from .classifiers import default_classifier, open_attention

# package -> the photographs that it ships
_SHIPPED = {
    "skimage": ("data/chelsea.png", "data/coffee.png", "data/rocket.jpg"),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
}
# pictures that the command leaves
_WRITTEN = re.compile(r"explanations(-\d+)?\.png|.+\.\d+\.(overlay|heatmap)\.png")
# photographs in memory at once, and rows of a picture
_BATCH = 8
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


def explain_photos(
    photos: Sequence[Path],
    out: Path,
    top: int = 1,
    name: str = "explanations",
    loaded: LoadedClassifier | None = None,
    attention: str | None = None,
    batch: int = _BATCH,
    device: torch.device | None = None,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Explain the `top` most probable classes (1 to 1,000) of photographs, beside Grad-CAM.

    The photographs are those of `find_photos`. They are read and explained a few at a time. Writes
    `name`.png and, beyond `batch` rows, `name`-002.png and so on into the folder `out`, `name`.json
    at the end. The classifier is EfficientNet-Lite0, unless another one is `loaded`;
    on `device`, or where it is.

    Returns:
        what the JSON file holds, a row an explanation, with "photo", "class" (index), "name",
        "probability" and "picture"; and why each photograph was left out that cannot be read.

    Raises:
        ModuleNotFoundError: the extra `photos` is not installed.
        FileNotFoundError: no photograph is given, and no package here ships any.
        ValueError: `top` is out of range; or the names are not one a class.
    """
    loaded = loaded or default_classifier()
    if device is not None:
        loaded.model.to(device)
    classes = len(loaded.class_names or ())
    if top < 1 or (classes and top > classes):
        raise ValueError(f"top must be 1 to {classes}, the number of classes, got {top}")
    files = list(find_photos(photos, out))
    unread: list[str] = []
    explanations = _top_classes(loaded, read_each(files, loaded, unread, "explaining"), top)
    rows: list[dict[str, Any]] = []
    ours = LearnableCAM(loaded.model, attention=open_attention(attention))
    for page, part in enumerate(batched(explanations, batch), 1):
        images = torch.stack([image for _, image, _, _ in part])
        maps = _maps(loaded, ours, images, torch.tensor([c for _, _, c, _ in part]))
        titles = [f"{loaded.class_name(c)}\np = {p:.2f}" for _, _, c, p in part]
        file = f"{name}.png" if page == 1 else f"{name}-{page:03d}.png"
        picture(out / file, images, titles, maps, loaded.frozen.pixels)
        rows += [
            {
                "photo": str(path),
                "class": c,
                "name": loaded.class_name(c),
                "probability": round(p, 4),
                "picture": file,
            }
            for path, _, c, p in part
        ]
    if rows:
        with atomic_path(out / f"{name}.json") as path:
            path.write_text(json.dumps(rows, indent=1))
    return rows, unread


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


def _top_classes(
    loaded: LoadedClassifier, photos: Iterable[tuple[Path, Tensor]], top: int
) -> Iterator[tuple[Path, Tensor, int, float]]:
    """Each photograph with each of its `top` most probable classes, and its probability."""
    for part in batched(photos, _BATCH):
        with torch.no_grad():
            images = torch.stack([image for _, image in part])
            scores = class_scores(loaded.model(images.to(device_of(loaded.model))))
        loaded.check_names(scores.shape[1])
        found = probabilities(scores).topk(min(top, scores.shape[1]), 1)
        for (path, image), p, c in zip(part, found.values, found.indices, strict=True):
            for one, index in zip(p.tolist(), c.tolist(), strict=True):
                yield path, image, index, one


def _maps(
    loaded: LoadedClassifier, ours: LearnableCAM, images: Tensor, classes: Tensor
) -> dict[str, Tensor]:
    """Each method's maps; Grad-CAM holds on to its last graph, 95 MB an image, until it goes."""
    with grad_cam(loaded.frozen, images.shape[2:]) as other:
        cams = {"Grad-CAM": other, "LearnableCAM": ours}
        return {name: class_maps(cam, images, classes) for name, cam in cams.items()}


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items in a row, the last shorter: itertools.batched, of Python 3.12."""
    left = iter(items)
    while part := list(islice(left, size)):
        yield part
