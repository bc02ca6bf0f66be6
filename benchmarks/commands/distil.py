"""Train a small classifier of another family by distillation from EfficientNet-Lite0.

\b
    python -m benchmarks distil --data caltech/train --data caltech/more --val caltech/val \\
        --family resnet --minutes 30 --out results/families

No labels: the student learns the teacher's probabilities, somewhat sharpened, of random views of
the photographs. What the teacher says of them is kept in DIR/views, so that it is computed once for
all families. Leaves DIR/<family>.safetensors after each epoch, and DIR/<family>.json.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

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

SIDE = 224  # of the images that the teacher is made for
BATCH = 64
SHARPER = 1.3  # the teacher's logits are multiplied by it: a student is less sure than its teacher
WARM_UP = 0.15  # of the time
STUDENTS = {"resnet": resnet, "vit": vit}
RATES = {"resnet": 3e-3, "vit": 1.5e-3}  # the largest ones of learning
TRAINED_AT = 128  # pixels a side; what has a stem sees that of the teacher's images


@click.command(help=__doc__)
@click.option("--data", "folders", multiple=True, type=click.Path(exists=True), required=True)
@click.option("--val", "held_out", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--labelled", type=click.Path(exists=True, path_type=Path), help="NNNN_....jpg files")
@click.option("--family", "name", type=click.Choice(list(STUDENTS)), required=True)
@click.option("--minutes", default=30.0, show_default=True, help="of training")
@click.option("--views", default=4, show_default=True, help="of each photograph")
@click.option("--threads", type=int, help="as many as there are cores, unless given")
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
    seed: int,
    out: Path,
) -> None:
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(seed)
    watch(folders, views, seed, out / "views")
    (model, normalization), side = STUDENTS[name](), FAMILIES[name].side
    inputs = np.load(out / "views" / f"{'stem' if hasattr(model, 'stem') else 'pixels'}.npy", "r")
    logits = torch.from_numpy(np.load(out / "views" / "logits.npy"))
    student = Student(model, normalization, RATES[name], inputs, logits)
    photos = answers(student.stem, stacked(held_out, normalization, side))
    told = answers(efficientnet_lite(0)[0], stacked(held_out, efficientnet_lite(0)[1], SIDE))
    report: dict[str, Any] = {"command": command_line(), "family": name, "seed": seed}
    report |= {"threads": torch.get_num_threads(), "views": len(inputs)}
    for epoch, loss, spent in student.train(60 * minutes, seed):
        scores = answers(student.trained, photos)
        report |= {"epochs": epoch, "minutes": spent / 60, "loss": loss} | agreement(scores, told)
        checkpoint.save(out / f"{name}.safetensors", model.state_dict(), report)
        click.echo(
            f"{name}: epoch {epoch:.1f}, {spent / 60:.1f} of {minutes:g} minutes, loss {loss:.3f}, "
            f"agrees on {report['agreement']:.1f} %, confidence {report['confidence']:.2f}"
        )
    if labelled is not None:
        files = photo_files(labelled)
        scores = answers(model, stacked(labelled, normalization, side))
        true = torch.tensor([int(file.name.split("_")[0]) for file in files])
        report["top-1"] = 100 * float((scores.argmax(1) == true).float().mean())
    write_json(out / f"{name}.json", report)
    click.echo(f"{name}: {report}")


@torch.inference_mode()
def watch(folders: Sequence[str], views: int, seed: int, kept: Path) -> None:
    """Leave in `kept`, of random views of the photographs: pixels.npy, uint8, for the students;
    what the frozen stem makes of them, stem.npy; and the teacher's logits.npy, float16 both."""
    files = [file for folder in folders for file in photo_files(folder)]
    made = {"folders": list(folders), "photographs": len(files), "views": views, "seed": seed}
    made |= {"side": SIDE}
    if (kept / "views.json").exists() and read_json(kept / "views.json") == made:
        return
    (kept / "views.json").unlink(missing_ok=True)
    (teacher, normalization), (student, _) = efficientnet_lite(0), vit()
    stem, later = student.get_submodule("stem"), teacher.get_submodule("features.blocks")[11:]
    rest = nn.Sequential(later, *list(teacher.children())[1:])
    rest.insert(1, teacher.get_submodule("features.last"))
    for module in (stem, rest):
        module.to(memory_format=torch.channels_last)
    view = v2.Compose(
        [v2.ToImage(), v2.RandomResizedCrop(SIDE, (0.35, 1.0)), v2.RandomHorizontalFlip()]
    )
    side, count, started = TRAINED_AT, len(files) * views, time.monotonic()
    shapes = {"pixels": (count, 3, side, side), "stem": (count, 112, SIDE // 16, SIDE // 16)}
    shapes |= {"logits": (count, 1000)}
    with ExitStack() as stack:
        to: dict[str, Any] = {}
        for name, shape in shapes.items():
            path = stack.enter_context(atomic_path(kept / f"{name}.npy"))
            kind = np.uint8 if name == "pixels" else np.float16
            to[name] = np.lib.format.open_memmap(path, "w+", kind, shape)
        step = max(1, BATCH // views)
        for first in range(0, len(files), step):
            some = [read_photo(file, SIDE) for file in files[first : first + step]]
            pixels = torch.stack([view(photo) for photo in some for _ in range(views)])
            images = normalization.normalize(pixels / 255).contiguous(
                memory_format=torch.channels_last
            )
            with torch.autocast("cpu", torch.bfloat16):
                maps = stem(images)
                scores = rest(maps)
            smaller = v2.functional.resize(pixels, [side, side], antialias=True)
            part = slice(first * views, first * views + len(pixels))
            for name, value in {"pixels": smaller, "stem": maps, "logits": scores}.items():
                to[name][part] = value if name == "pixels" else value.half()
            if first // step % 20 == 0:
                spent = time.monotonic() - started
                left = spent * (len(files) / (first + len(some)) - 1)
                click.echo(f"views: {first + len(some)} of {len(files)}, {left:.0f} s left")
        for array in to.values():
            array.flush()
    write_json(kept / "views.json", made)


class Student:
    """A family's model in training: inputs are pixels, or what its frozen stem made of them."""

    def __init__(
        self,
        model: nn.Module,
        normalization: Normalization,
        rate: float,
        inputs: np.ndarray,
        logits: Tensor,
    ) -> None:
        self.model, self.normalization, self.rate = model, normalization, rate
        self.inputs, self.logits = inputs, logits
        of_stem = isinstance(model, nn.Sequential) and hasattr(model, "stem")
        self.stem = model[0] if of_stem else nn.Identity()
        self.trained = model[1:] if of_stem else model
        self.trained.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(self.trained.parameters(), weight_decay=0.05)
        self.half = False

    def train(self, seconds: float, seed: int) -> Any:
        """Train for so long; yields (epochs, mean loss, seconds spent) after each, and at the end.

        The learning rate follows the clock, one cycle of it: other work on the machine costs steps,
        not the end of the cycle.
        """
        self.half = self.loss_seconds(True) < self.loss_seconds(False)
        click.echo(f"bfloat16: {self.half}")
        generator, spent, epoch = torch.Generator().manual_seed(seed), 0.0, 0
        steps = max(1, len(self.inputs) // BATCH)
        while spent < seconds:
            self.model.train()
            order, losses = torch.randperm(len(self.inputs), generator=generator), []
            for part in order.split(BATCH)[:steps]:
                started = time.monotonic()
                for group in self.optimizer.param_groups:
                    group["lr"] = self.rate * one_cycle(spent / seconds)
                self.optimizer.zero_grad()
                loss = self.loss(part)
                loss.backward()
                self.optimizer.step()
                losses.append(float(loss.detach()))
                spent += time.monotonic() - started
                if spent >= seconds:
                    break
            self.model.eval()
            yield epoch + len(losses) / steps, sum(losses) / len(losses), spent
            epoch += 1

    def loss(self, part: Tensor) -> Tensor:
        """The divergence from the sharpened teacher of the views of these numbers (N,)."""
        inputs = torch.from_numpy(self.inputs[part.sort().values.numpy()]).float()
        goal = (SHARPER * self.logits[part.sort().values].float()).softmax(1)
        if self.inputs.dtype == np.uint8:
            inputs = self.normalization.normalize(inputs / 255)
            inputs = torch.where(torch.rand(len(part), 1, 1, 1) < 0.5, inputs, inputs.flip(3))
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        # on a CPU the fused attention's backward pass takes three times as long in bfloat16
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half), sdpa_kernel(SDPBackend.MATH):
            scores = self.trained(inputs)
        return F.kl_div(scores.float().log_softmax(1), goal, reduction="batchmean")

    def loss_seconds(self, half: bool) -> float:
        """How long a pass forward and backward takes, the faster of two."""
        self.half, times = half, []
        for _ in range(2):
            started = time.monotonic()
            self.loss(torch.arange(min(BATCH, len(self.inputs)))).backward()
            times.append(time.monotonic() - started)
        return min(times)


def one_cycle(done: float) -> float:
    """The share of the largest learning rate, when so much (0 to 1) of the training is done."""
    if done < WARM_UP:
        return 0.04 + 0.96 * done / WARM_UP
    return max(1e-3, 0.5 + 0.5 * float(np.cos(np.pi * (done - WARM_UP) / (1 - WARM_UP))))


def stacked(folder: Path, normalization: Normalization, side: int) -> Tensor:
    """The photographs of a folder (N, 3, side, side)."""
    return torch.cat(list(DataLoader(PhotoFolder(folder, normalization, side), BATCH)))


@torch.inference_mode()
def answers(model: nn.Module, images: Tensor) -> Tensor:
    """The logits (N, K)."""
    return torch.cat([model(part) for part in images.split(BATCH)])


def agreement(scores: Tensor, told: Tensor) -> dict[str, float]:
    """Percent of the images of which student and teacher, logits (N, K), name the same class, and
    how sure both are of theirs, in the mean."""
    same = (scores.argmax(1) == told.argmax(1)).float().mean()
    sure, teacher = (x.softmax(1).amax(1).mean() for x in (scores, told))
    return {
        "agreement": 100 * float(same),
        "confidence": float(sure),
        "teacher's confidence": float(teacher),
    }
