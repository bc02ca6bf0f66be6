"""Classify and explain with a file of `export_onnx`."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .photographs import cropped, normalized, photo_files, read_photo, upright
from .record import line, read_record
from .scores import highest, probabilities

Classes = int | str | np.integer | Sequence[int | str | np.integer]
Photo = str | os.PathLike[str] | Image.Image | np.ndarray


@dataclass(frozen=True)
class Explanation:
    """A class of an image, and why.

    Attributes:
        index, name: of the class; the name is None where the file has none.
        probability: softmax of the scores, unless they are probabilities already (none below 0, a
            sum of 1); of a single score its sigmoid.
        heat: the map, (H, W) or the mechanism's grid, of 0 to 1; or uint8, if the file gives it.
        against: index of the class that it is held against, if the file is of `contrast=True`.

    Of a single score below 0, where no class is asked for, what speaks against its class is
    explained: the name is "not" that of the class, `against` is 0, its index, and the probability
    that of its not being there. A file with `classes=True` explains the class, whatever its score.
    """

    index: int
    name: str | None
    probability: float
    heat: np.ndarray
    against: int | None = None


class Explainer:
    """An exported classifier, see `export_onnx`. Any number of threads may share one; a
    process that gets one, pickled, reads the file again.

    Args:
        path: of the file.
        threads: of onnxruntime for one run; 0 takes all cores.
        providers: onnxruntime's, such as ["CUDAExecutionProvider"].

    Attributes:
        record: what the file says of itself: layers, normalisation, the attention, versions.
        class_names: one a class, or None.
        side: (H, W) of the classifier's images.

    Raises:
        ModuleNotFoundError: onnxruntime is missing.
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or is no file of `export_onnx`.

    >>> explainer = Explainer("explained.onnx")  # doctest: +SKIP
    >>> (found,) = explainer.explain("photo.jpg")  # doctest: +SKIP
    >>> found.name, found.probability, found.heat.shape  # doctest: +SKIP
    ('tabby', 0.83, (224, 224))
    >>> explainer.overlay("photo.jpg", found.heat).save("overlay.png")  # doctest: +SKIP
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        threads: int = 0,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "onnxruntime is missing: pip install onnxruntime", name="onnxruntime"
            ) from error
        if not Path(path).is_file():
            raise FileNotFoundError(f"there is no ONNX file at {path}")
        self._made = os.path.abspath(path), threads, tuple(providers)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(
                os.fspath(path), options, providers=list(providers)
            )
        except Exception as error:  # of a kind of its own for each reason
            raise ValueError(f"{path} is not a whole ONNX file: {line(error)}") from error
        self.record = read_record(path, self._session.get_modelmeta().custom_metadata_map)
        names = self.record["class_names"]
        self.class_names: tuple[str, ...] | None = None if names is None else tuple(names)
        self.side: tuple[int, int] = tuple(self.record["input_size"][1:])
        self._pixels = bool(self.record["pixels"])
        self._takes_classes = len(self._session.get_inputs()) > 1
        half = "float16" in self._session.get_inputs()[0].type
        self._type = np.uint8 if self._pixels else np.float16 if half else np.float32
        explains = self.record["explains"]
        self._contrast = " rather than " in explains
        counts = not self._takes_classes and not self._contrast
        self._top = int(explains.removeprefix("top ")) if counts else None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._made  # to another process, which reads the file again

    def explain(
        self, photo: Photo, classes: Classes | None = None, top: int | None = None
    ) -> list[Explanation]:
        """Classify a photograph, and explain classes of it.

        Args:
            photo: a path, an image of Pillow, or RGB of 8 bits (H, W, 3).
            classes: one or several indices or names, of a file exported with `classes=True`; of one
                with `contrast=True` two, the second of which the first is held against.
            top: or the so many most probable classes; all that the file explains unless given.

        Returns:
            an explanation a class: in the order of `classes`, or the most probable first. Of a file
            with `contrast=True` one: of the first class, or the most probable, against the second.

        Raises:
            FileNotFoundError, ValueError: no such photograph, or none that can be read.
            IndexError, KeyError, TypeError: there is no such class.
            ValueError: the file does not explain that, as the `top` of a contrast.
        """
        return self._explained([self._read(photo)], self._chosen(classes), top)[0]

    def explain_all(
        self,
        photos: str | os.PathLike[str] | Iterable[Photo],
        classes: Classes | None = None,
        top: int | None = None,
        batch: int = 8,
        unread: list[str] | None = None,
    ) -> Iterator[tuple[Photo, list[Explanation]]]:
        """Each photograph with its explanations, `batch` of them in memory at a time.

        Args:
            photos: a folder, at any depth, or photographs as of `explain`.
            classes, top: as of `explain`.
            batch: how many are run together.
            unread: gets a line for each photograph that cannot be read; None raises it.
        """
        if batch < 1:
            raise ValueError(f"batch must be at least 1, got {batch}")
        chosen = self._chosen(classes)
        if isinstance(photos, (str, os.PathLike)):
            if os.path.isfile(photos):
                raise ValueError(f"{photos} is a file: pass a folder, or [{str(photos)!r}]")
            photos = photo_files(photos)
        left = iter(photos)
        while part := list(islice(left, batch)):
            tried = [(photo, self._tried(photo, unread)) for photo in part]
            read = [(photo, image) for photo, image in tried if image is not None]
            found = self._explained([image for _, image in read], chosen, top)
            yield from zip((photo for photo, _ in read), found, strict=True)

    def _tried(self, photo: Photo, unread: list[str] | None) -> np.ndarray | None:
        try:
            return self._read(photo)
        except (FileNotFoundError, ValueError) as error:
            if unread is None:
                raise
            unread.append(line(error))
            return None

    def view(self, photo: Photo) -> Image.Image:
        """The part of a photograph that the classifier sees, at its size (H, W)."""
        return cropped(self._opened(photo), self.side)

    def overlay(self, photo: Photo, heat: np.ndarray, alpha: float = 0.5) -> Image.Image:
        """What the classifier sees of the photograph under its map, in colours from blue to red."""
        seen = self.view(photo)
        values = heat if heat.dtype == np.uint8 else np.round(heat * 255).astype(np.uint8)
        resized = Image.fromarray(values).resize(seen.size, Image.Resampling.BILINEAR)
        place = 4 * np.asarray(resized, np.float32)[..., None] / 255
        colours = np.clip(1.5 - np.abs(place - np.array([3, 2, 1])), 0, 1) * 255
        return Image.blend(seen, Image.fromarray(colours.astype(np.uint8)), alpha)

    def _opened(self, photo: Photo) -> Image.Image:
        if isinstance(photo, np.ndarray):
            if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8 or not photo.size:
                raise ValueError(
                    "an array must be RGB of 8 bits, (H, W, 3) of uint8, got "
                    f"{photo.dtype} of {photo.shape}"
                )
            return Image.fromarray(photo)
        if isinstance(photo, Image.Image):
            return upright(photo.copy()).convert("RGB")
        return read_photo(photo, max(self.side))

    def _read(self, photo: Photo) -> np.ndarray:
        """As the file takes it, without the batch."""
        image = self._opened(photo)
        if self._pixels:
            return np.asarray(image)
        if (norm := self.record["normalization"]) is None:
            raise ValueError(
                "the file does not say what normalisation its images go through: export it with "
                "normalization=Normalization(mean, std)"
            )
        grey = self.record["input_size"][0] == 1
        return normalized(cropped(image, self.side), norm, grey).astype(self._type)

    def _explained(
        self, images: list[np.ndarray], classes: list[int] | None, top: int | None
    ) -> list[list[Explanation]]:
        if len({image.shape for image in images}) > 1:  # photographs as they are
            return [self._explained([image], classes, top)[0] for image in images]
        if not images:
            return []
        given, wanted = {"images": np.stack(images)}, None
        if top is not None and self._contrast:
            raise ValueError(f"this file explains the {self.record['explains']}: leave top out")
        default = 2 if self._contrast else self._top or 1
        most = default if top is None else top
        if classes is not None and top is not None:
            raise ValueError(f"give classes or top, not both: got {classes!r} and top={top}")
        if classes is not None:
            wanted = np.tile(classes, (len(images), 1))
        elif self._takes_classes:  # which are the most probable is not known before
            given["classes"] = np.tile(np.arange(default, dtype=np.int64), (len(images), 1))
            logits, _ = self._session.run(None, given)
            wanted = highest(logits, most)
        elif not 1 <= most <= default:
            raise ValueError(f"this file explains the {self.record['explains']}, got top={top}")
        if wanted is not None:
            given["classes"] = wanted.astype(np.int64)
        logits, heat = self._session.run(None, given)
        heat = heat[:, None] if heat.ndim == 3 else heat
        names, shares = self.class_names or [None] * logits.shape[1], probabilities(logits)
        if wanted is None and logits.shape[1] == 1:  # the graph explains its sign
            pairs = zip(shares[:, 0].tolist(), heat[:, 0], strict=True)
            return [[_of_sign(names[0], p, one)] for p, one in pairs]
        wanted = highest(logits, most) if wanted is None else wanted
        return [
            [
                Explanation(
                    int(k), names[k], float(p[k]), one, int(row[1]) if self._contrast else None
                )
                for k, one in zip(row, maps, strict=False)  # of a pair, one map: of the first
            ]
            for row, p, maps in zip(wanted, shares, heat, strict=True)
        ]

    def _chosen(self, classes: Classes | None) -> list[int] | None:
        """Their indices."""
        if classes is None:
            return None
        explains = self.record["explains"]
        if not self._takes_classes:
            raise ValueError(
                f"this file explains the {explains}: to choose classes, export it with classes=True"
            )
        if isinstance(classes, (str, int, np.integer)):  # a name is no sequence of letters
            classes = [classes]
        given = list(classes)
        if not given:
            raise ValueError("classes is empty: name one at least, or leave it out")
        chosen = [self._index(one) for one in given]
        if self._contrast and (len(chosen) != 2 or chosen[0] == chosen[1]):
            raise ValueError(
                f"this file explains the {explains}: classes must be two of them, got {given}"
            )
        return chosen

    def _index(self, one: int | str | np.integer) -> int:
        if isinstance(one, str):
            same = [i for i, name in enumerate(self.class_names or ()) if name == one]
            if not same:
                raise KeyError(f"there is no class {one!r} in the file")
            if len(same) > 1:
                raise KeyError(f"{one!r} is the name of the classes {same}: give one's index")
            return same[0]
        if isinstance(one, bool) or not isinstance(one, (int, np.integer)):
            raise TypeError(f"a class is an index or a name, got {one!r}")
        if not 0 <= one < self.record["num_classes"]:
            last = self.record["num_classes"] - 1
            raise IndexError(f"class index {one} is out of range: the classes are 0 to {last}")
        return int(one)


def _of_sign(name: str | None, p: float, heat: np.ndarray) -> Explanation:
    if p >= 0.5:
        return Explanation(0, name, p, heat)
    return Explanation(0, None if name is None else f"not {name}", 1 - p, heat, against=0)
