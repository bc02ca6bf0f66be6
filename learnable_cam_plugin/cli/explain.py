"""`learnable-cam explain`: photographs, with the attention that comes with the package."""

import json
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from pytorch_grad_cam import GradCAM
from torch import Tensor, nn
from torchvision.models import EfficientNet_B0_Weights
from tqdm.auto import tqdm

from ..cam import LearnableCAM
from ..checkpoint import atomic_path
from ..classifier import class_scores
from ..comparison import class_maps, picture
from ..data import photo_files, photo_transform, read_photo
from ..masking import Normalization
from ..pretrained import efficientnet_lite0

# package -> the photographs that it ships
_SHIPPED = {
    "skimage": ("data/chelsea.png", "data/coffee.png", "data/rocket.jpg"),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
}
# photographs in memory at once, and rows of a picture
_BATCH = 8
_SIZE = 224
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


def explain_photos(
    photos: Sequence[Path], out: Path, top: int = 1, name: str = "explanations"
) -> tuple[list[dict[str, Any]], list[str]]:
    """Explain the `top` most probable classes (1 to 1,000) of photographs, beside Grad-CAM.

    The photographs are image files, see `read_photo`, and folders of them; without any, those that
    packages ship. They are read and explained a few at a time. Writes `name`.png and, beyond 8
    rows, `name`-002.png and so on into the folder `out`, `name`.json at the end.

    Returns:
        what the JSON file holds, a row an explanation, with "photo", "class" (index), "name",
        "probability" and "picture"; and why each photograph was left out that cannot be read.

    Raises:
        ModuleNotFoundError: the extra `photos` is not installed.
        FileNotFoundError: no photograph is given, and no package here ships any.
        ValueError: `top` is out of range.
    """
    model, normalization = efficientnet_lite0()
    names = EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"]
    if not 1 <= top <= len(names):
        raise ValueError(f"top must be 1 to {len(names)}, the number of classes, got {top}")
    files = [f for p in photos for f in (photo_files(p) if p.is_dir() else [p])]
    files = files or shipped_photos()
    if not files:
        raise FileNotFoundError(
            "no photographs given, and no package here ships any: name some, or pip install "
            "'learnable-cam-plugin[photos]'"
        )
    unread: list[str] = []
    explanations = _top_classes(model, _read(files, normalization, unread), top)
    rows: list[dict[str, Any]] = []
    ours = LearnableCAM(model)
    for page, part in enumerate(_batched(explanations), 1):
        images = torch.stack([image for _, image, _, _ in part])
        maps = _maps(model, ours, images, torch.tensor([c for _, _, c, _ in part]))
        titles = [f"{names[c]}\np = {p:.2f}" for _, _, c, p in part]
        file = f"{name}.png" if page == 1 else f"{name}-{page:03d}.png"
        picture(out / file, images, titles, maps, normalization)
        rows += [
            {
                "photo": str(path),
                "class": c,
                "name": names[c],
                "probability": round(p, 4),
                "picture": file,
            }
            for path, _, c, p in part
        ]
    if rows:
        with atomic_path(out / f"{name}.json") as path:
            path.write_text(json.dumps(rows, indent=1))
    return rows, unread


def _read(
    files: Sequence[Path], normalization: Normalization, unread: list[str]
) -> Iterator[tuple[Path, Tensor]]:
    """Each photograph that can be read, for the network; why the others cannot, into `unread`."""
    transform = photo_transform(normalization, _SIZE)

    def tensor(path: Path) -> Tensor | None:
        try:
            return transform(read_photo(path, _SIZE))
        except (FileNotFoundError, ValueError) as error:
            unread.append(str(error))
            return None

    for path in tqdm(files, desc="explaining", disable=None):  # no bar in a log
        image = tensor(path)
        if image is not None:
            yield path, image


def _top_classes(
    model: nn.Module, photos: Iterable[tuple[Path, Tensor]], top: int
) -> Iterator[tuple[Path, Tensor, int, float]]:
    """Each photograph with each of its `top` most probable classes, and its probability."""
    for part in _batched(photos):
        with torch.no_grad():
            scores = class_scores(model(torch.stack([image for _, image in part])))
        found = scores.softmax(1).topk(top, 1)
        for (path, image), p, c in zip(part, found.values, found.indices, strict=True):
            for one, index in zip(p.tolist(), c.tolist(), strict=True):
                yield path, image, index, one


def _maps(
    model: nn.Module, ours: LearnableCAM, images: Tensor, classes: Tensor
) -> dict[str, Tensor]:
    """Each method's maps; Grad-CAM holds on to its last graph, 95 MB an image, until it goes."""
    with GradCAM(model, [model.get_submodule("features")]) as other:
        cams = {"Grad-CAM": other, "LearnableCAM": ours}
        return {name: class_maps(cam, images, classes) for name, cam in cams.items()}


def _batched(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Lists of `_BATCH` items in a row, the last shorter: itertools.batched, of Python 3.12."""
    left = iter(items)
    while part := list(islice(left, _BATCH)):
        yield part
