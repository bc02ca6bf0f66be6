"""The report of an analysis on the disk."""

import csv
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from ..atomic import atomic_path
from . import page
from .analysis import Analysis
from .case import Case
from .figure import write_figure
from .manifest import CASES, FIGURE, IMAGE, case_record, folder_of, rows, run_record
from .pictures import KINDS, Pixels, brightest, coloured, enlarged, grey, jpeg

PAGE, MANIFEST, TABLE = "index.html", "manifest.json", "cases.csv"
_CASE = re.compile(r"\d{4,}(-.*)?")
_STAGE = ".learnable-cam-report"  # in the report's folder, while one is written


def write_report(
    analysis: Analysis,
    folder: str | os.PathLike[str],
    photograph: Callable[[str], Pixels],
    figures: bool = False,
) -> Path:
    """Write what is found out about the images; the page's path is returned.

    `index.html` is a page with everything inside, to be opened from a disk or mailed;
    `manifest.json` and `cases.csv` are for programs (in the table, a name that a spreadsheet would
    take for a formula comes after an apostrophe); `cases/` has a folder for each case: the
    photograph, the four maps as float32 (`.npy`), as 8-bit masks at the image's size and over the
    photograph, and the regions. An earlier report in the folder is as it was until all of the
    new one is written, and then gone; other files there are left alone.

    Args:
        analysis: what `analyze` returns.
        folder: where to; made if it does not exist.
        photograph: name of a case -> its image as the classifier sees it, before normalisation:
            RGB, uint8, (H, W, 3), of the case's `size`. It is asked once for each case, in their
            order, and may raise OSError: the case is then shown without its photograph.
        figures: draw `figure.png` for each case as well, for print; a second or two each.

    Raises:
        TypeError, ValueError: the photograph is no such array, naming the case.
        FileExistsError: the folder holds a page, a table or cases of something else.
        OSError: it cannot be written to, or is full.

    >>> import tempfile
    >>> nothing = Analysis(cases=(), class_names=("goose", "drake"), images=3, errors=0)
    >>> page = write_report(nothing, tempfile.mkdtemp(), photograph={}.__getitem__)
    >>> sorted(path.name for path in page.parent.iterdir())
    ['cases', 'cases.csv', 'index.html', 'manifest.json']
    """
    folder = Path(folder)
    check_folder(folder)
    # what is entered last is moved to its place first: the page last, the manifest before the table
    with ExitStack() as stack:
        staged = stack.enter_context(_staged_cases(folder))
        paths = [stack.enter_context(atomic_path(folder / n)) for n in (PAGE, TABLE, MANIFEST)]
        with ExitStack() as opened:
            html, table, manifest = (
                opened.enter_context(
                    open(path, "w", encoding="utf-8", errors="backslashreplace", newline="")
                )
                for path in paths
            )
            csv.writer(table).writerows(rows(analysis))
            _write_cases(analysis, staged, photograph, figures, html, manifest)
        _replace(staged / CASES, folder / CASES, staged / "before")
    return folder / PAGE


def check_folder(folder: Path) -> None:
    """FileExistsError if a report would take the place of files that are none of a report."""
    try:
        with open(folder / MANIFEST, encoding="utf-8") as handle:
            if '"schema_version"' in handle.read(200):
                return
    except (OSError, UnicodeDecodeError):
        pass
    cases = folder / CASES
    ours = cases.is_dir() and all(_CASE.fullmatch(path.name) for path in cases.iterdir())
    there = [name for name in (PAGE, MANIFEST, TABLE) if (folder / name).exists()]
    if there or (cases.exists() and not ours):  # a run that was killed left cases alone
        raise FileExistsError(
            f"{folder} holds {[*there, CASES][0]}, of no report of this command, and one would "
            "take its place: choose another folder"
        )


def _write_cases(
    analysis: Analysis,
    staged: Path,
    photograph: Callable[[str], Pixels],
    figures: bool,
    html: IO[str],
    manifest: IO[str],
) -> None:
    """A case after the other, so that one photograph is held at a time."""
    before, after = page.around(analysis)
    html.write(before)
    manifest.write(json.dumps(run_record(analysis), indent=1, allow_nan=False)[:-2])
    manifest.write(',\n "cases": [')
    for number, case in enumerate(analysis.cases):
        pixels, problem = _read(case, photograph)
        place = staged / folder_of(analysis, number)
        place.mkdir(parents=True)
        _write_pictures(case, place, pixels)
        record = case_record(analysis, number, pixels is not None)
        if problem:
            record["problem"] = problem
        if figures:
            write_figure(place / FIGURE, case, analysis.class_names, pixels)
            record["figure"] = f"{record['folder']}/{FIGURE}"
        manifest.write(("," if number else "") + "\n  " + json.dumps(record, allow_nan=False))
        html.write(page.case_script(number, case, pixels, problem))
    manifest.write("\n ]\n}\n")
    html.write(after)


def _read(case: Case, photograph: Callable[[str], Pixels]) -> tuple[Pixels | None, str]:
    try:
        pixels = photograph(case.photo.name)
    except OSError as error:
        return None, str(error)
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
        kind = getattr(pixels, "dtype", type(pixels).__name__)
        raise TypeError(
            f"photograph({case.photo.name!r}) must be a uint8 array of RGB, got {kind}: for a PIL "
            'image, np.asarray(image.convert("RGB"))'
        )
    if pixels.shape != (*case.size, 3):
        raise ValueError(
            f"photograph({case.photo.name!r}) must be {(*case.size, 3)}, the image as the "
            f"classifier sees it, got {pixels.shape}: resize and crop it as for the analysis"
        )
    return pixels, ""


def _write_pictures(case: Case, place: Path, pixels: Pixels | None) -> None:
    scale = brightest(case)
    if pixels is not None:
        (place / IMAGE).write_bytes(jpeg(pixels, 90))
    for kind in KINDS:
        found = getattr(case.maps, kind)
        np.save(place / f"{kind}.npy", np.asarray(found, dtype=np.float32), allow_pickle=False)
        Image.fromarray(grey(enlarged(found, case.size), scale)).save(place / f"{kind}.png")
        if pixels is not None:
            (place / f"{kind}-overlay.jpg").write_bytes(jpeg(coloured(pixels, found, scale)))
    for kind, region in case.regions.items():
        Image.fromarray(np.where(region, 255, 0).astype(np.uint8)).save(
            place / f"{kind}-region.png"
        )


@contextmanager
def _staged_cases(folder: Path) -> Iterator[Path]:
    """A folder to write cases to, gone in the end; what a killed process left of one goes first."""
    stage = folder / _STAGE
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(stage, ignore_errors=True)
    try:
        (stage / CASES).mkdir(parents=True)
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _replace(new: Path, old: Path, aside: Path) -> None:
    """Folders cannot be replaced in one step: the old one is moved aside, and back if need be."""
    if old.exists():
        os.rename(old, aside)
    try:
        os.rename(new, old)
    except OSError:
        if aside.exists():
            os.rename(aside, old)
        raise
