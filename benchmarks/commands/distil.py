"""Train a small classifier of another family by distillation from EfficientNet-Lite0.

\b
    python -m benchmarks distil --data caltech/train --data caltech/more --val caltech/val \\
        --family resnet --minutes 30 --out results/families

No labels: the student learns the teacher's probabilities, somewhat sharpened, of random views of
the photographs. What the teacher says of them is kept in DIR/views, so that it is computed once for
all families. Leaves DIR/<family>.safetensors after each epoch, and DIR/<family>.json. With
--further a student that lies there is trained on.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from learnable_cam_plugin import Normalization, checkpoint
from learnable_cam_plugin.checkpoint import atomic_path
from learnable_cam_plugin.data import PhotoFolder, photo_files, read_photo
from learnable_cam_plugin.pretrained import efficientnet_lite

from ..families import FAMILIES, resnet, vit
from ..report.schema import command_line, read_json, write_json


class Student(NamedTuple):
    """How a family is made and trained: the largest learning rate, and the file of what it sees."""

    build: Callable[[Path | None], tuple[nn.Module, Normalization]]
    rate: float
    sees: str


STUDENTS = {"resnet": Student(resnet, 3e-3, "pixels"), "vit": Student(vit, 1.5e-3, "stem")}
SIDE = 224  # of the views that the teacher sees
SMALLER = 128  # of those that are kept as pixels
BATCH = 64
SHARPER = 1.3  # the teacher's logits are multiplied by it: a student is less sure than its teacher
WARM_UP = 0.15  # of the time


@click.command(help=__doc__)
@click.option("--data", "folders", multiple=True, type=click.Path(exists=True), required=True)
@click.option("--val", "held_out", type=click.Path(exists=True, path_type=Path), required=True)
@click.option(
    "--labelled",
    type=click.Path(exists=True, path_type=Path),
    help="photographs whose names start with the number of their class, such as 0012_",
)
@click.option("--family", "name", type=click.Choice(list(STUDENTS)), required=True)
@click.option("--minutes", type=click.FloatRange(0, min_open=True), default=30, show_default=True)
@click.option("--views", type=click.IntRange(1), default=4, show_default=True, help="a photograph")
@click.option("--threads", type=click.IntRange(1), help="as many as torch takes, unless given")
@click.option("--further", is_flag=True, help="start from DIR/<family>.safetensors")
@click.option("--seed", default=0, show_default=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
def main(
    folders: Sequence[str],
    held_out: Path,
    labelled: Path | None,
    name: str,
    minutes: float,
    views: int,
    threads: int | None,
    further: bool,
    seed: int,
    out: Path,
) -> None:
    true = None if labelled is None else labels(labelled)
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(seed)
    look(folders, views, seed, out / "views")
    student, side = STUDENTS[name], FAMILIES[name].side
    model, normalization = student.build(out / f"{name}.safetensors" if further else None)
    frozen, trained = nn.Identity(), model
    if student.sees == "stem":
        frozen, trained = model[0], model[1:]  # type: ignore[index]
    inputs = np.load(out / "views" / f"{student.sees}.npy", "r")
    logits = torch.from_numpy(np.load(out / "views" / "logits.npy"))
    teacher, of_teacher = efficientnet_lite(0)
    told = answers(teacher, stacked(held_out, of_teacher, SIDE))
    photos = answers(frozen, stacked(held_out, normalization, side))

    report: dict[str, Any] = {"command": command_line(), "family": name, "seed": seed}
    report |= {"threads": torch.get_num_threads(), "views": len(inputs)}
    loss = partial(divergence, trained, inputs, logits, normalization)
    for epochs, value, spent in train(trained, loss, len(inputs), student.rate, 60 * minutes, seed):
        report |= {"epochs": epochs, "minutes": spent / 60, "loss": value}
        report |= agreement(answers(trained, photos), told)
        checkpoint.save(out / f"{name}.safetensors", model.state_dict(), report)
        click.echo(
            f"{name}: epoch {epochs:.1f}, {minutes - spent / 60:.1f} minutes left, loss "
            f"{value:.3f}, agrees on {report['agreement']:.1f} %, sure {report['confidence']:.2f}"
        )
    if labelled is not None and true is not None:
        named = answers(model, stacked(labelled, normalization, side)).argmax(1)
        report["top-1"] = 100 * float((named == true).float().mean())
    write_json(out / f"{name}.json", report)
    click.echo(f"{name}: {report}")


@torch.inference_mode()
def look(folders: Sequence[str], views: int, seed: int, kept: Path) -> None:
    """Leave in `kept` what was seen of random views of the photographs (M of them in all).

    The views themselves in pixels.npy, uint8 (M, 3, 128, 128); what `vit`'s stem makes of them in
    stem.npy, float16 (M, 112, 14, 14); and what the teacher says, logits.npy, float16 (M, 1000).
    """
    files = [file for folder in folders for file in photo_files(folder)]
    made = {"folders": list(folders), "photographs": len(files), "views": views, "seed": seed}
    done = kept / "views.json"
    if done.exists() and read_json(done) == made:
        return
    done.unlink(missing_ok=True)
    (teacher, normalization), (student, _) = efficientnet_lite(0), vit()
    stem = student.get_submodule("stem")
    later = [*teacher.get_submodule("features.blocks").children()][len(stem) - 1 :]  # type: ignore[arg-type]
    rest = nn.Sequential(*later, teacher.get_submodule("features.last"), *[*teacher.children()][1:])
    for module in (stem, rest):
        module.to(memory_format=torch.channels_last)
    view = v2.Compose(
        [v2.ToImage(), v2.RandomResizedCrop(SIDE, (0.35, 1.0)), v2.RandomHorizontalFlip()]
    )
    arrays: dict[str, Any] = {}
    with ExitStack() as stack:
        step, started = max(1, BATCH // views), time.monotonic()
        for first in range(0, len(files), step):
            photos = [read_photo(file, SIDE) for file in files[first : first + step]]
            pixels = torch.stack([view(photo) for photo in photos for _ in range(views)])
            images = normalization.normalize(pixels / 255)
            with torch.autocast("cpu", torch.bfloat16):
                maps = stem(images.contiguous(memory_format=torch.channels_last))
                scores = rest(maps)
            smaller = v2.functional.resize(pixels, [SMALLER, SMALLER], antialias=True)
            part = slice(first * views, first * views + len(pixels))
            for name, seen in {"pixels": smaller, "stem": maps, "logits": scores}.items():
                values = (seen if name == "pixels" else seen.half()).numpy()
                if name not in arrays:
                    path = stack.enter_context(atomic_path(kept / f"{name}.npy"))
                    shape = (len(files) * views, *values.shape[1:])
                    arrays[name] = np.lib.format.open_memmap(path, "w+", values.dtype, shape)
                arrays[name][part] = values
            if first // step % 20 == 0:
                seen_of = first + len(photos)
                left = (time.monotonic() - started) * (len(files) / seen_of - 1)
                click.echo(f"views: of {seen_of} of {len(files)} photographs, {left:.0f} s left")
        for array in arrays.values():
            array.flush()
    write_json(done, made)


def divergence(
    trained: nn.Module,
    inputs: np.ndarray,
    logits: Tensor,
    normalization: Normalization,
    part: Tensor,
    half: bool,
) -> Tensor:
    """The student's divergence from the sharpened teacher, of the views of these numbers (N,).

    Inputs (M, ...) are pixels, or maps of the frozen stem; `half` is of its passes in bfloat16.
    """
    part = part.sort().values  # as they lie in the file
    seen = torch.from_numpy(inputs[part.numpy()]).float()
    if inputs.dtype == np.uint8:
        seen = normalization.normalize(seen / 255)
        seen = torch.where(torch.rand(len(part), 1, 1, 1) < 0.5, seen, seen.flip(3))
    seen = seen.contiguous(memory_format=torch.channels_last)
    # on a CPU the fused attention's backward pass takes three times as long in bfloat16
    with torch.autocast("cpu", torch.bfloat16, enabled=half), sdpa_kernel(SDPBackend.MATH):
        scores = trained(seen).float()
    goal = (SHARPER * logits[part].float()).softmax(1)
    return F.kl_div(scores.log_softmax(1), goal, reduction="batchmean")


def train(
    trained: nn.Module,
    loss: Callable[[Tensor, bool], Tensor],
    count: int,
    rate: float,
    seconds: float,
    seed: int,
) -> Iterator[tuple[float, float, float]]:
    """Train for so long on `count` views; yields (epochs, mean loss, seconds spent) after each.

    In bfloat16 where that is measured to be faster. The learning rate follows the clock, one cycle
    of it: other work on the machine costs steps, not the cycle's end.
    """
    trained.train().to(memory_format=torch.channels_last)
    half = _seconds(loss, count, True) < _seconds(loss, count, False)
    click.echo("in bfloat16" if half else "in float32")
    optimizer = torch.optim.AdamW(trained.parameters(), weight_decay=0.05)
    generator = torch.Generator().manual_seed(seed)
    spent, epoch, batch = 0.0, 0, min(BATCH, count)
    steps = count // batch
    while spent < seconds:
        losses: list[float] = []
        trained.train()
        for part in torch.randperm(count, generator=generator).split(batch)[:steps]:
            started = time.monotonic()
            for group in optimizer.param_groups:
                group["lr"] = rate * one_cycle(spent / seconds)
            optimizer.zero_grad()
            value = loss(part, half)
            value.backward()
            optimizer.step()
            losses.append(float(value.detach()))
            if not math.isfinite(losses[-1]):
                raise FloatingPointError(
                    f"the loss is {losses[-1]} in epoch {epoch + 1}: lower the learning rate, "
                    f"{rate}; the weights of the epoch before are kept"
                )
            spent += time.monotonic() - started
            if spent >= seconds:
                break
        trained.eval()
        yield epoch + len(losses) / steps, sum(losses) / len(losses), spent
        epoch += 1


def _seconds(loss: Callable[[Tensor, bool], Tensor], count: int, half: bool) -> float:
    """How long a pass forward and backward takes, the faster of two."""
    times = []
    for _ in range(2):
        started = time.monotonic()
        loss(torch.arange(min(BATCH, count)), half).backward()
        times.append(time.monotonic() - started)
    return min(times)


def one_cycle(done: float) -> float:
    """The share of the largest learning rate, when so much (0 to 1) of the training is done."""
    if done < WARM_UP:
        return 0.04 + 0.96 * done / WARM_UP
    return max(1e-3, 0.5 + 0.5 * math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))


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
    """What a model gives for inputs (N, ...), a batch at a time."""
    return torch.cat([model(part) for part in inputs.split(BATCH)])


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
