"""Judge two methods by eye without knowing which is which; uncover the names afterwards.

\b
    python -m benchmarks judge --data ../shared/data/caltech/val --out judged
    python -m benchmarks judge --uncover judged --votes votes.csv

The first leaves pages of six photographs each, page-01.png and so on: a photograph, numbered, with
the class that the network predicts, and that class's maps of two methods, X and Y. One is the
universal attention's, the other Grad-CAM's at the same last layer, in an order drawn anew for each
photograph. Which is which is in key.json, not to be opened before the votes are written, a line a
photograph: its number, the better map (X, Y, or = where neither is), and why.

\b
    1,X,covers the whole dog
    2,=,

The second counts them, lists the photographs lost, and leaves judge.md and judge.json.
"""

import math
import secrets
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from pytorch_grad_cam import GradCAM
from torch import Tensor
from torchvision.models import EfficientNet_B0_Weights
from tqdm import trange

from learnable_cam_plugin import LearnableCAM
from learnable_cam_plugin.attention import UniversalAttention, universal_beside
from learnable_cam_plugin.classifier import FrozenClassifier, predict
from learnable_cam_plugin.comparison import class_maps, markdown_table, open_methods, picture
from learnable_cam_plugin.data import PhotoFolder

from ..report.schema import command_line, leave, read_json, write_json
from ..sources import SIDES, lite, universal

ROWS = 6  # of a page
OURS, PEER = "universal", "Grad-CAM"
LEVEL = "="
_FOLDER = click.Path(path_type=Path, file_okay=False)

Row = dict[str, Any]


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="photographs")
@click.option("--count", default=30, show_default=True, help="of them, evenly spread")
@click.option(
    "--network", type=click.Choice(["lite0", "lite2"]), default="lite2", show_default=True
)
@click.option(
    "--attention", type=click.Path(path_type=Path, exists=True), help="if not the shipped"
)
@click.option("--seed", type=int, help="of the order; one that nobody knows unless given")
@click.option("--out", type=_FOLDER, help="where the pages and the key go")
@click.option("--uncover", type=_FOLDER, help="the folder that was judged")
@click.option("--votes", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def main(
    data: Path | None,
    count: int,
    network: str,
    attention: Path | None,
    seed: int | None,
    out: Path | None,
    uncover: Path | None,
    votes: Path | None,
) -> None:
    try:
        if uncover is not None and votes is not None and data is None and out is None:
            report(uncover, votes)
        elif data is not None and out is not None and uncover is None and votes is None:
            draw(data, count, int(network[-1]), attention, seed, out)
        else:
            raise click.UsageError("give --data and --out, or --uncover and --votes")
    except (FileNotFoundError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def draw(
    data: Path, count: int, number: int, path: Path | None, seed: int | None, out: Path
) -> None:
    """Leave the pages, and at the end the key: a folder with a key is whole."""
    if (out / "key.json").exists():
        raise ValueError(f"{out} holds pictures and their key already: choose another --out")
    classifier = lite(number)
    photos = PhotoFolder(data, classifier.pixels, SIDES[number])
    if not 1 <= count <= len(photos):
        raise ValueError(f"--count must be 1 to {len(photos)}, the photographs there, got {count}")
    photos.files = [photos.files[i * len(photos) // count] for i in range(count)]
    seed = secrets.randbits(32) if seed is None else seed
    ours_first = torch.from_numpy(np.random.default_rng(seed).integers(2, size=count) == 1)
    names = EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"]
    trained, rows = universal(path), []
    for start in trange(0, count, ROWS, desc="pages"):
        first = ours_first[start : start + ROWS]
        images = torch.stack([photos[start + i] for i in range(len(first))])
        p, classes = predict(classifier.model, images)
        ours, peers = both_maps(classifier, trained, images, classes)
        maps = {
            side: torch.where(chosen[:, None, None], ours, peers)
            for side, chosen in (("X", first), ("Y", ~first))
        }
        page = f"page-{start // ROWS + 1:02d}.png"
        titles = []
        for i, (c, sure) in enumerate(zip(classes.tolist(), p.tolist(), strict=True), start):
            titles.append(f"{i + 1}. {names[c]}\np = {sure:.2f}")
            x, y = (OURS, PEER) if ours_first[i] else (PEER, OURS)
            photo = photos.files[i].relative_to(data).as_posix()
            rows.append(
                {"number": i + 1, "photo": photo, "class": names[c], "p": round(sure, 4)}
                | {"page": page, "X": x, "Y": y}
            )
        picture(out / page, images, titles, maps, classifier.pixels, dpi=180)
    found = {"seed": seed, "network": f"efficientnet-lite{number}", "attention": trained.source}
    write_json(out / "key.json", {"command": command_line(), **found, "rows": rows})
    click.echo(
        f"{count} photographs to judge in {out}; write the votes, then: python -m benchmarks judge "
        f"--uncover {out} --votes FILE"
    )


def both_maps(
    classifier: FrozenClassifier, trained: UniversalAttention, images: Tensor, classes: Tensor
) -> tuple[Tensor, Tensor]:
    """The maps (N, H, W) of the universal attention, and Grad-CAM's at the last layer."""
    model, layers = classifier.model, list(classifier.layers.values())
    bound = universal_beside(classifier, images, trained)
    with ExitStack() as stack:
        cams = {OURS: LearnableCAM(model, layers, attention=bound)}
        found = open_methods(stack, {**cams, PEER: GradCAM(model, layers[-1:])})
        maps = {name: class_maps(cam, images, classes) for name, cam in found.items()}
    return maps[OURS], maps[PEER]


def read_votes(path: Path, numbers: list[int]) -> dict[int, tuple[str, str]]:
    """Number -> (X, Y or =; why), one vote each of the photographs `numbers`.

    Raises a ValueError that lists all lines that are no votes, and what is missing or twice.
    """
    votes: dict[int, tuple[str, str]] = {}
    wrong = []
    for at, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        number, vote, why = ([part.strip() for part in line.split(",", 2)] + ["", ""])[:3]
        vote = vote.upper()
        if not line.strip() or (at == 1 and number.lower() == "number"):
            continue
        if not number.isdecimal() or int(number) not in numbers:
            wrong.append(f"line {at}: there is no photograph {number!r}")
        elif vote not in ("X", "Y", LEVEL):
            wrong.append(f"line {at}: the vote must be X, Y or {LEVEL}, got {vote!r}")
        elif int(number) in votes:
            wrong.append(f"line {at}: a second vote on photograph {number}")
        else:
            votes[int(number)] = (vote, why.strip('"'))
    # of a photograph whose only vote cannot be read, the line says so
    if missing := [n for n in numbers if n not in votes]:
        wrong.append(f"no vote on {', '.join(map(str, missing))}")
    if wrong:
        raise ValueError(
            f"{path} must have a line 'number,X|Y|{LEVEL},reason' for each photograph of 1 to "
            f"{len(numbers)}; nothing was uncovered: {'; '.join(wrong)}"
        )
    return votes


def sign_test(won: int, lost: int) -> float:
    """The two-sided p-value of so many wins and losses if both were as likely.

    >>> sign_test(9, 1), sign_test(0, 0)
    (0.021484375, 1.0)
    """
    tail = sum(math.comb(won + lost, k) for k in range(min(won, lost) + 1))
    return min(1.0, 2 * tail / 2 ** (won + lost))


def report(folder: Path, path: Path) -> None:
    """Print and leave the count, and the photographs lost with the reasons."""
    if not (folder / "key.json").is_file():
        raise FileNotFoundError(f"there is no key.json in {folder}: give the --out of a judge run")
    key = read_json(folder / "key.json")
    votes = read_votes(path, [row["number"] for row in key["rows"]])
    rows: list[Row] = []
    for row in key["rows"]:
        vote, why = votes[row["number"]]
        better = "level" if vote == LEVEL else row[vote]
        rows.append({**row, "vote": vote, "better": better, "reason": why})
    won, lost, level = (
        sum(row["better"] == name for row in rows) for name in (OURS, PEER, "level")
    )
    p = sign_test(won, lost)
    columns = ("number", "photo", "class", "reason")
    behind = [{name: str(row[name]) for name in columns} for row in rows if row["better"] == PEER]
    parts = [
        f"{len(rows)} photographs, {key['network']}, judged without the names: **{OURS} {won}, "
        f"{PEER} {lost}, level {level}**; two-sided sign test p = {p:.3g}.",
        f"**{PEER} was better**",
        markdown_table(behind) if behind else "On none.",
    ]
    counts = {OURS: won, PEER: lost, "level": level, "p": p}
    leave(folder, "judge", parts, counts=counts, rows=rows)
