"""Any loader that starts anew trains, every other is refused before a batch of it is lost."""

import dataclasses
import warnings
from collections import namedtuple

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
)

from learnable_cam_plugin import RECIPES, CheckpointError, LearnableCAMTrainer

from ..conftest import UNIT, tiny_network

SMALL = dataclasses.replace(RECIPES["every-threshold"], width=8)


def pixels(n=12, seed=0):
    return torch.rand(n, 3, 20, 24, generator=torch.Generator().manual_seed(seed))


def batches():
    return list(pixels().split(4))


def labels():
    return list((torch.arange(12) % 5).split(4))


def trainer(recipe="l-cam-img", **options):
    options = {"normalization": UNIT, "epochs": 2, "progress": False, "device": "cpu", **options}
    return LearnableCAMTrainer(tiny_network(), ["4"], recipe=recipe, **options)


def same(one, other):
    return all(torch.equal(v, other.state_dict()[k]) for k, v in one.state_dict().items())


class Anew:
    """Gives what a function gives, each time it is iterated; has no length."""

    def __init__(self, function):
        self.function = function

    def __iter__(self):
        return iter(self.function())


class Stream(IterableDataset):
    def __init__(self, images):
        self.images = images

    def __iter__(self):
        return iter(self.images)


class Augmented(Dataset):
    """Each image, made darker by a factor that is drawn anew each time."""

    def __init__(self, images, draw=lambda: torch.rand(())):
        self.images, self.draw = images, draw

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index] * self.draw()


Pair = namedtuple("Pair", "pictures classes")

KINDS = {
    "DataLoader": lambda: DataLoader(TensorDataset(pixels()), batch_size=4),
    "stream": lambda: DataLoader(Stream(pixels()), batch_size=4),
    "without a length": lambda: Anew(batches),
    "(images, labels)": lambda: list(zip(batches(), labels(), strict=True)),
    "named tuples": lambda: [Pair(*pair) for pair in zip(batches(), labels(), strict=True)],
    "made in inference mode": lambda: inference(),
    **{
        f"'{key}'": lambda key=key: [{key: images, "id": 1} for images in batches()]
        for key in ("image", "images", "pixel_values", "img")
    },
}


@torch.inference_mode()
def inference():
    return [images * 1 for images in batches()]


@pytest.mark.parametrize("recipe", ["l-cam-img", SMALL], ids=["l-cam-img", "every-threshold"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_loader_of_any_kind_trains_what_a_list_does(kind, recipe):
    expected = trainer(recipe).fit(batches())
    t = trainer(recipe)
    assert same(t.fit(KINDS[kind](), KINDS[kind]()), expected)
    assert [row["images"] for row in t.history] == [0, 12, 12]


@pytest.mark.parametrize(
    "batch",
    [
        lambda x, y: (x, y),
        lambda x, y: {"image": x, "label": y},
        lambda x, y: {"pixel_values": x, "labels": y},
        lambda x, y: ({"image": x}, y),
        lambda x, y: ({"image": x}, {"target": y}),
        lambda x, y: [{"image": x, "targets": y.tolist()}],
    ],
)
def test_labels_are_read_wherever_they_are(batch):
    pairs = list(zip(batches(), labels(), strict=True))
    expected = trainer(labels="dataset").fit(pairs)
    assert same(trainer(labels="dataset").fit([batch(*pair) for pair in pairs]), expected)
    assert not same(trainer().fit(pairs), expected)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"x": pixels(4)}, r"its images under one of .*it has the keys \['x'\]"),
        ({"image": pixels(4), "img": pixels(4)}, r"it has \['image', 'img'\]"),
        ({"image": pixels(4)}, r"its labels under one of .*it has the keys \['image'\]"),
        (pixels(4), "needs a loader of"),
        ((pixels(4), ["cat", "dog", "cat", "owl"]), "labels must be integers, one an image"),
        ((pixels(4), torch.tensor([True, False, True, True])), "labels must be integers"),
        (((pixels(4) * 255).byte(), torch.arange(4)), "images must be floating-point"),
    ],
)
def test_a_batch_without_images_or_labels_is_refused(batch, message):
    with pytest.raises((TypeError, ValueError), match=message):
        trainer(labels="dataset").fit([batch])


class SameAgain:
    """Starts where it was: its iterator is always the same."""

    def __init__(self):
        self.inner = iter(batches())

    def __iter__(self):
        return self.inner


ONCE = {
    "generator": lambda: (images for images in batches()),
    "iterator": lambda: iter(batches()),
    "map": lambda: map(torch.clone, batches()),
    "DataLoader's iterator": lambda: iter(DataLoader(pixels(), batch_size=4)),
    "its own iterator": SameAgain,
    "stream": lambda: DataLoader(Stream(iter(pixels())), batch_size=4),
    "sampler": lambda: DataLoader(pixels(), batch_size=4, sampler=iter(range(12))),
    "batch sampler": lambda: DataLoader(pixels(), batch_sampler=iter([[0, 1], [2, 3]])),
}


@pytest.mark.parametrize("kind", ONCE)
def test_a_loader_that_can_be_iterated_once_is_refused_before_a_batch_is_lost(kind, tmp_path):
    for arguments, which in (([ONCE[kind]()], "training"), ([batches(), ONCE[kind]()], "valid")):
        t = trainer(epochs=1, output_dir=tmp_path / "out")
        with pytest.raises(ValueError, match=f"the {which}.* can be iterated once"):
            t.fit(*arguments)
        assert t.history == []
        assert not (tmp_path / "out").exists()
        assert sum(1 for _ in arguments[-1]) in (2, 3)  # all that it has


def test_what_is_no_loader_is_refused():
    with pytest.raises(TypeError, match=r"the training loader must give batches.* got a int"):
        trainer().fit(3)
    with pytest.raises(TypeError, match="the validation loader must give batches"):
        trainer().fit(batches(), object())


@pytest.mark.parametrize(
    ("val_loader", "message"),
    [([], "the validation loader is empty"), ([pixels(4) * 3], "declare the normalisation")],
)
def test_a_validation_loader_is_looked_at_before_the_first_step(val_loader, message):
    t = trainer()
    with pytest.raises(ValueError, match=message):
        t.fit(batches(), val_loader)
    assert (t.history, t.attention) == ([], None)


def test_every_batch_must_be_normalised_as_declared():
    t = trainer()
    with pytest.raises(ValueError, match=r"batch 3 of epoch 1: .*declare the normalisation"):
        t.fit([*batches()[:2], batches()[2] * 4 - 1])
    assert same(t.attention, trainer(epochs=1).fit(batches()[:2]))
    with pytest.raises(ValueError, match="declare the normalisation"):
        trainer().fit(batches(), [*batches(), batches()[2] * 4 - 1])


# What resuming compares


def shuffled(images=None, batch_size=4, **options):
    images = pixels() if images is None else images
    return DataLoader(TensorDataset(images), batch_size=batch_size, shuffle=True, **options)


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        (lambda: shuffled(batch_size=3), r"batch: \[4, 3, 20, 24\] then, \[3, 3, 20, 24\] now"),
        (lambda: shuffled(pixels(13)), "images: 12 then, 13 now"),
        (lambda: shuffled(pixels(16)), "batches: 3 then, 4 now"),
        (lambda: shuffled(pixels(seed=1)), "first_batch: '.*' then, '.*' now"),
        (lambda: shuffled(pixels().flip(3)), "first_batch: '.*' then, '.*' now"),
        (lambda: DataLoader(TensorDataset(pixels()), batch_size=4), "first_batch"),
        (lambda: DataLoader(Augmented(pixels()), batch_size=4, shuffle=True), "first_batch"),
    ],
    ids=["batch size", "one image", "more images", "images", "transform", "order", "augmentation"],
)
def test_a_training_is_not_gone_on_with_on_another_loader(tmp_path, loader, message):
    trainer(output_dir=tmp_path).fit(shuffled())
    with pytest.raises(CheckpointError, match=f"loader's {message}"):
        trainer(output_dir=tmp_path, epochs=3).fit(loader(), resume=True)
    longer = trainer(output_dir=tmp_path, epochs=3).fit(shuffled(), resume=True)
    assert same(longer, trainer(epochs=3).fit(shuffled()))


def test_a_training_is_not_gone_on_with_in_another_precision(tmp_path):
    trainer(output_dir=tmp_path).fit(batches())
    with pytest.raises(CheckpointError, match="mixed_precision: 'no' then, 'bf16' now"):
        trainer(output_dir=tmp_path, mixed_precision="bf16").fit(batches(), resume=True)


def test_a_loader_that_the_seed_does_not_determine_is_warned_of(tmp_path):
    own = torch.Generator().manual_seed(1)
    loader = DataLoader(
        Augmented(pixels(), lambda: torch.rand((), generator=own)), batch_size=4, shuffle=True
    )
    with pytest.warns(UserWarning, match="other batches when it is started again .*generators"):
        trainer(output_dir=tmp_path).fit(loader)
    with pytest.warns(UserWarning, match="will not end exactly"):  # but can be gone on with
        trainer(output_dir=tmp_path, epochs=3).fit(loader, resume=True)


def test_workers_that_persist_and_draw_are_warned_of_and_others_resume_exactly(tmp_path):
    def loader(persistent):
        return DataLoader(
            Augmented(pixels()), batch_size=4, num_workers=1, persistent_workers=persistent
        )

    with pytest.warns(UserWarning, match="pass persistent_workers=False"):
        trainer(epochs=1).fit(loader(True))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer(output_dir=tmp_path, epochs=1).fit(loader(False))
        resumed = trainer(output_dir=tmp_path, epochs=2).fit(loader(False), resume=True)
        assert same(resumed, trainer(epochs=2).fit(loader(False)))


def test_a_batch_samplers_own_generator_is_seeded_too(tmp_path):
    def loader():
        sampler = RandomSampler(pixels(), generator=torch.Generator())
        return DataLoader(pixels(), batch_sampler=BatchSampler(sampler, 4, drop_last=False))

    one = loader()
    trainer(output_dir=tmp_path, epochs=1).fit(one)
    resumed = trainer(output_dir=tmp_path).fit(loader(), resume=True)
    assert same(resumed, trainer().fit(one))


def test_a_sampler_is_told_the_epoch():
    """As DistributedSampler needs to shuffle anew."""

    class Told(SequentialSampler):
        epochs = ()

        def set_epoch(self, epoch):
            self.epochs += (epoch,)

    sampler = Told(pixels())
    trainer().fit(DataLoader(pixels(), batch_size=4, sampler=sampler))
    assert list(dict.fromkeys(sampler.epochs)) == [0, 1, 2]  # 0: the first look
