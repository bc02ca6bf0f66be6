"""Small seeded classifiers with a finer and a coarser layer, for the tests of this folder."""

import torch
from torch import Tensor, nn


def classifier(num_classes: int = 5, channels: int = 3, seed: int = 0) -> nn.Sequential:
    """Images (N, C, H, W); maps of half their side at `net[1]`, of a quarter at `net[3]`."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, 2, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(8, num_classes),
    ).eval()


def of_volumes() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(1, 6, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(6, 5)
    ).eval()


class Tokens(nn.Module):
    """Patches in a row, as a vision transformer keeps them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.block = nn.Conv2d(3, 8, 4, 4), nn.Sequential(nn.Linear(8, 8), nn.GELU())
        self.head = nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.block(self.patches(images).flatten(2).transpose(1, 2))
        return self.head(tokens.mean(1))


class TwoInputs(nn.Module):
    """Two batches of images, added; then a factor, and something that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.net = classifier()

    def forward(
        self, images: Tensor, others: Tensor, factor: float = 1.0, word: str | None = None
    ) -> Tensor:
        assert word in (None, "word")
        return self.net(images + factor * others)


class Pair(nn.Module):
    """A layer that gives two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.net = classifier()
        self.both = Both()

    def forward(self, images: Tensor) -> Tensor:
        one, other = self.both(self.net[1](self.net[0](images)))
        return self.net[2:](one + other)


class Both(nn.Module):
    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        return maps * 1, maps * 2


class Unused(nn.Module):
    """A layer that runs, and of which no score depends."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.side = classifier(), nn.Conv2d(3, 8, 3)

    def forward(self, images: Tensor) -> Tensor:
        self.side(images)
        return self.net(images)


class Returns(nn.Module):
    """A classifier whose scores are in an object, as those of transformers are."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> object:
        return Output(self.net(images))


class Output:
    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
