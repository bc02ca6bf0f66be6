"""accelerate for the length of a training, its process-wide state left as found; and several
processes that train as one does."""

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import RLock
from typing import Any

import torch
from torch import Tensor, nn

# Trainings seed the process-wide generators and use accelerate's process-wide state, so that
# threads have to train one after the other.
_ONE_TRAINING = RLock()


@contextmanager
def own_accelerator(device: str | None, mixed_precision: str) -> Iterator[Any]:
    """An `Accelerator` with settings of its own, whatever the host program has set up in this
    process; the host's state, or that there is none, is as it was afterwards.

    Raises:
        ValueError: fp16 on a CPU, which accelerate would leave out without a word.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState, PartialState

    states = (AcceleratorState, GradientState, PartialState)
    with _ONE_TRAINING:
        threads = torch.get_num_threads()
        found = [vars(state)["_shared_state"] for state in states]
        for state in states:
            state._shared_state = {}
        try:
            accelerator = Accelerator(cpu=device == "cpu", mixed_precision=mixed_precision)
            if mixed_precision == "fp16" and accelerator.scaler is None:
                raise ValueError(
                    f"mixed_precision='fp16' needs a GPU, and the training is on "
                    f"'{accelerator.device.type}': take 'bf16' or 'no'"
                )
            # `accelerate launch` may ask for it: the loss would be divided, and every step taken
            accelerator.gradient_accumulation_steps = 1
            yield accelerator
        finally:
            for state, shared in zip(states, found, strict=True):
                state._shared_state = shared
            torch.set_num_threads(threads)


def check_recipe(recipe: Any, processes: int) -> None:
    """ValueError for several processes and a recipe whose loss on parts of a batch does not add up
    to that on the whole batch: one that does not say `per_image`."""
    if processes > 1 and not getattr(recipe, "per_image", False):
        raise ValueError(
            f"{processes} processes were launched, and the recipe {recipe.name!r} draws over whole "
            "batches: they would not train what one process does. Train in one process, or with "
            "'l-cam-img' or 'l-cam-fm'. (A recipe of your own whose loss is the mean of what each "
            "image gives by itself says so: per_image = True)"
        )


def check_attention(attention: nn.Module, processes: int) -> None:
    """ValueError for several processes and an attention that mixes a batch's images."""
    kinds = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
    mixing = [name for name, module in attention.named_modules() if isinstance(module, kinds)]
    if mixing and processes > 1:
        raise ValueError(
            f"{processes} processes were launched, and {mixing} of the attention mix the images of "
            "a batch, or draw for each: train in one process"
        )


class Shares:
    """How the processes share each batch: all draw the same one, and each computes on its part.

    Loss terms and gradients are sums over the parts, weighted by the images in them, and so those
    of the whole batch, whatever its size and wherever it comes from.
    """

    def __init__(self, accelerator: Any) -> None:
        self.accelerator = accelerator
        self.count, self.own = accelerator.num_processes, accelerator.process_index

    def part(self, batch: Tensor) -> Tensor:
        """This process's images, or labels, of a batch; none if there are fewer than processes."""
        return batch if self.count == 1 else batch[self.own :: self.count]

    def check_same(self, images: Tensor) -> None:
        """ValueError unless all processes drew the same batch."""
        if self.count == 1:
            return
        data = images.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
        own = torch.tensor([zlib.crc32(data) % 2**24], device=self.accelerator.device)
        if len(self.accelerator.gather(own).unique()) > 1:
            raise ValueError(
                "the processes drew different batches. Each takes its part of the same batch: pass "
                "every process the whole loader, neither sharded nor prepared by accelerate, that "
                "draws from torch's, numpy's or random's own generators alone"
            )

    def terms(self, values: Mapping[str, float], share: float) -> dict[str, float]:
        """The batch's terms from the parts', each weighted by its share of the images."""
        if self.count == 1:
            return dict(values)
        own = torch.tensor(list(values.values()), device=self.accelerator.device) * share
        return dict(zip(values, self.accelerator.reduce(own, "sum").tolist(), strict=True))

    def gradients(self, parameters: Iterable[nn.Parameter], share: float) -> None:
        """Make each parameter's gradient that of the whole batch."""
        if self.count == 1:
            return
        for parameter in parameters:
            own = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = self.accelerator.reduce(own * share, "sum")

    def start_alike(self, attention: nn.Module) -> None:
        """Give all processes the first one's attention: theirs may be rounded in another way."""
        from accelerate.utils import broadcast

        if self.count > 1:
            with torch.no_grad():
                for tensor in attention.state_dict(keep_vars=True).values():
                    tensor.copy_(broadcast(tensor.detach().clone()))

    def gathered(self, values: Sequence[Tensor]) -> list[Tensor]:
        """On the CPU, each with what the other processes have of it appended."""
        from accelerate.utils import gather_object

        if self.count == 1:
            return [value.cpu() for value in values]
        parts = gather_object([[value.cpu() for value in values]])
        return [torch.cat(own) for own in zip(*parts, strict=True)]
