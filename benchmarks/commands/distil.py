"""Train a small classifier of another family by distillation from EfficientNet-Lite0.

\b
    python -m benchmarks distil --data caltech/train --data caltech/more --val caltech/val \\
        --family resnet --minutes 30 --out results/families

No labels: the student learns the teacher's probabilities, somewhat sharpened, of random views of
the photographs. On a GPU, where there is one: there three minutes do what an hour does on two CPU
cores. Leaves DIR/<family>.safetensors, in half precision, ten times on the way, and
DIR/<family>.json. With --further a student that lies there is trained on.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from tqdm.auto import tqdm

from learnable_cam_plugin import Normalization, checkpoint
from learnable_cam_plugin.classifier import device_of
from learnable_cam_plugin.data import PhotoFolder, photo_files, read_photo
from learnable_cam_plugin.pretrained import efficientnet_lite

from ..families import FAMILIES
from ..report.schema import command_line, write_json
from ..sources import best_device

SIDE = 224  # of the views that the teacher sees
KEPT = 256  # of the photographs that views are cut from
SMALLEST = 0.35  # a view, of the photograph
SHARPER = 1.3  # the teacher's logits are multiplied by it: a student is less sure than its teacher
WARM_UP = 0.15  # of the time
BATCH = 64  # of photographs that are only looked at
STUDENTS = [name for name, family in FAMILIES.items() if family.rate]


@click.command(help=__doc__)
@click.option("--data", "folders", multiple=True, type=click.Path(exists=True), required=True)
@click.option("--val", "held_out", type=click.Path(exists=True, path_type=Path), required=True)
@click.option(
    "--labelled",
    type=click.Path(exists=True, path_type=Path),
    help="photographs whose names start with the number of their class, such as 0012_",
)
@click.option("--family", "name", type=click.Choice(STUDENTS), required=True)
@click.option("--minutes", type=click.FloatRange(0, min_open=True), default=30, show_default=True)
@click.option("--batch", type=click.IntRange(2), default=64, show_default=True)
@click.option("--threads", type=click.IntRange(1), help="as many as torch takes, unless given")
@click.option("--workers", default=0, show_default=True, help="processes that read photographs")
@click.option("--further", is_flag=True, help="start from DIR/<family>.safetensors")
@click.option("--seed", default=0, show_default=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
def main(
    folders: Sequence[str],
    held_out: Path,
    labelled: Path | None,
    name: str,
    minutes: float,
    batch: int,
    threads: int | None,
    workers: int,
    further: bool,
    seed: int,
    out: Path,
) -> None:
    true = None if labelled is None else labels(labelled)
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(seed)
    device, family, weights = best_device(), FAMILIES[name], out / f"{name}.safetensors"
    model, normalization = family.load(weights if further else None)
    side, rate = family.side, float(family.rate or 0)
    model = placed(model, device)
    untouched, of_teacher = efficientnet_lite(0)
    teacher = placed(untouched, device)
    told = answers(teacher, stacked(held_out, of_teacher, SIDE))
    photos, shapes = whole(folders, workers)
    photos, shapes = photos.to(device), shapes.to(device)
    shown = stacked(held_out, normalization, side)

    report: dict[str, Any] = {"command": command_line(), "family": name, "seed": seed}
    report |= {"device": device.type, "threads": torch.get_num_threads()}
    report["photographs"] = len(photos)

    def loss(part: Tensor) -> Tensor:
        part = part.to(device)
        seen = views(photos[part], shapes[part])
        with torch.no_grad():
            goal = (SHARPER * teacher(of_teacher.normalize(seen)).float()).softmax(1)
        smaller = v2.functional.resize(seen, [side, side], antialias=True)
        scores = model(normalization.normalize(smaller)).float()
        return F.kl_div(scores.log_softmax(1), goal, reduction="batchmean")

    rounds = train(model, loss, len(photos), batch, rate, 60 * minutes, seed)
    for epochs, value, spent in rounds:
        report |= {"epochs": epochs, "minutes": spent / 60, "loss": value}
        report |= agreement(answers(model, shown), told)
        checkpoint.save(weights, in_half(model.state_dict()), report)
        click.echo(
            f"{name}: epoch {epochs:.1f}, {max(0.0, minutes - spent / 60):.1f} minutes left, loss "
            f"{value:.3f}, agrees on {report['agreement']:.1f} %, sure {report['confidence']:.2f}"
        )
    if labelled is not None and true is not None:
        named = answers(model, stacked(labelled, normalization, side)).argmax(1)
        report["top-1"] = 100 * float((named == true).float().mean())
    write_json(out / f"{name}.json", report)
    click.echo(f"{name}: {report}")


class Whole(Dataset[tuple[Tensor, Tensor]]):
    """Photographs, squeezed to (3, 256, 256) uint8, and of each the width over the height."""

    def __init__(self, folders: Sequence[str]) -> None:
        self.files = [file for folder in folders for file in photo_files(folder)]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        photo = v2.functional.to_image(read_photo(self.files[index], KEPT))
        shape = torch.tensor(photo.shape[2] / photo.shape[1])
        return v2.functional.resize(photo, [KEPT, KEPT], antialias=True), shape


def whole(folders: Sequence[str], workers: int) -> tuple[Tensor, Tensor]:
    """All photographs of the folders, (P, 3, 256, 256) uint8 and (P,): see `Whole`."""
    parts = list(tqdm(DataLoader(Whole(folders), BATCH, num_workers=workers), "reading"))
    photos, shapes = zip(*parts, strict=True)
    return torch.cat(photos), torch.cat(shapes)


def views(photos: Tensor, shapes: Tensor) -> Tensor:
    """Of each photograph, squeezed (N, 3, S, S) uint8, a random part with random sides, that may be
    mirrored: (N, 3, 224, 224) in [0, 1]. As torchvision's RandomResizedCrop, but for a whole batch,
    on its device. `shapes` (N,) are the widths over the heights, before they were squeezed."""
    count = len(photos)
    drawn = torch.rand(5, count).to(photos.device)
    share = SMALLEST + (1 - SMALLEST) * drawn[0]
    ratio = (4 / 3) ** (2 * drawn[1] - 1)
    width = (share * ratio / shapes).sqrt().clamp(max=1)
    height = (share / ratio * shapes).sqrt().clamp(max=1)
    left, top = (2 * drawn[2] - 1) * (1 - width), (2 * drawn[3] - 1) * (1 - height)
    flip = torch.where(drawn[4] < 0.5, -1.0, 1.0)
    nothing = torch.zeros_like(left)
    rows = torch.stack([width * flip, nothing, left, nothing, height, top], 1).view(-1, 2, 3)
    grid = F.affine_grid(rows, [count, 3, SIDE, SIDE], align_corners=False)
    return F.grid_sample(photos.float() / 255, grid, "bilinear", "border", align_corners=False)


def train(
    model: nn.Module,
    loss: Callable[[Tensor], Tensor],
    count: int,
    batch: int,
    rate: float,
    seconds: float,
    seed: int,
) -> Iterator[tuple[float, float, float]]:
    """Train for so long on `count` photographs; yields (epochs, mean loss, seconds) ten times.

    In bfloat16 where that is measured to be faster. The learning rate follows the clock, one cycle
    of it: other work on the machine costs steps, not the cycle's end.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    batch, learned = min(batch, count), [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, weight_decay=0.05)
    generator = torch.Generator().manual_seed(seed)
    half = _seconds(model, loss, batch, True) < _seconds(model, loss, batch, False)
    click.echo("in bfloat16" if half else "in float32")
    spent, steps, losses = 0.0, 0, []
    order = torch.empty(0, dtype=torch.long)
    while spent < seconds:
        started, until = time.monotonic(), spent + seconds / 10
        before = spent
        model.train()
        while spent < until:
            if len(order) < batch:
                order = torch.cat([order, torch.randperm(count, generator=generator)])
            part, order = order[:batch], order[batch:]
            for group in optimizer.param_groups:
                group["lr"] = rate * one_cycle(spent / seconds)
            optimizer.zero_grad()
            value = _value(loss, part, half)
            value.backward()
            optimizer.step()
            losses.append(float(value.detach()))
            steps += 1
            if not math.isfinite(losses[-1]):
                raise FloatingPointError(
                    f"the loss is {losses[-1]} in step {steps}: lower the learning rate, {rate}; "
                    "the weights of the round before are kept"
                )
            spent = before + time.monotonic() - started
        model.eval()
        yield steps * batch / count, sum(losses) / len(losses), spent
        losses = []


def _value(loss: Callable[[Tensor], Tensor], part: Tensor, half: bool) -> Tensor:
    device = best_device().type
    # on a CPU the fused attention's backward pass takes three times as long in bfloat16
    with torch.autocast(device, torch.bfloat16, enabled=half), sdpa_kernel(SDPBackend.MATH):
        return loss(part)


def _seconds(model: nn.Module, loss: Callable[[Tensor], Tensor], batch: int, half: bool) -> float:
    """How long a pass forward and backward takes, the faster of two; nothing is learned of it."""
    times = []
    for _ in range(2):
        started = time.monotonic()
        value = _value(loss, torch.arange(batch), half)
        value.backward()
        float(value.detach())  # what is queued on a device is waited for
        times.append(time.monotonic() - started)
    model.zero_grad()
    return min(times)


def one_cycle(done: float) -> float:
    """The share of the largest learning rate, when so much (0 to 1) of the training is done."""
    if done < WARM_UP:
        return 0.04 + 0.96 * done / WARM_UP
    return max(1e-3, 0.5 + 0.5 * math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))


def placed(model: nn.Module, device: torch.device) -> nn.Module:
    """On the device, laid out there as its convolutions are fastest."""
    return model.to(device).to(memory_format=torch.channels_last)


def in_half(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in half precision, contiguous, on the CPU; what counts stays an integer."""
    return {
        name: (value.half() if value.is_floating_point() else value).cpu().contiguous()
        for name, value in state.items()
    }


def labels(folder: Path) -> Tensor:
    """The classes (N,) that the names of a folder's photographs start with."""
    files = photo_files(folder)
    starts = [file.name.split("_")[0] for file in files]
    wrong = [file.name for file, start in zip(files, starts, strict=True) if not start.isdecimal()]
    if wrong:
        raise click.BadParameter(
            f"names must start with the number of the class, such as 0012_; {len(wrong)} of "
            f"{folder} do not, for example {wrong[0]}",
            param_hint="--labelled",
        )
    return torch.tensor([int(start) for start in starts])


def stacked(folder: Path, normalization: Normalization, side: int) -> Tensor:
    """The photographs of a folder (N, 3, side, side)."""
    return torch.cat(list(DataLoader(PhotoFolder(folder, normalization, side), BATCH)))


@torch.inference_mode()
def answers(model: nn.Module, inputs: Tensor) -> Tensor:
    """What a model gives for inputs (N, ...), a batch at a time; on the CPU."""
    device = device_of(model)
    return torch.cat([model(part.to(device)).cpu() for part in inputs.split(BATCH)])


def agreement(scores: Tensor, told: Tensor) -> dict[str, float]:
    """Percent of the images of which student and teacher, logits (N, K), name the same class, and
    how sure both are of theirs, in the mean."""
    same = (scores.argmax(1) == told.argmax(1)).float().mean()
    sure, of_teacher = (x.softmax(1).amax(1).mean() for x in (scores, told))
    return {
        "agreement": 100 * float(same),
        "confidence": float(sure),
        "teacher's confidence": float(of_teacher),
    }
