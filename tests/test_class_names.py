"""Classes as people write them."""

import pytest
from torchvision.models import EfficientNet_B0_Weights

from learnable_cam_plugin.class_names import ClassNames

NAMES = ("tench, Tinca tinca", "great white shark", "crane", "crane", "Cardigan", "cardigan")
IMAGENET = EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"]


@pytest.mark.parametrize(
    ("given", "index"),
    [
        ("great white shark", 1),
        ("GREAT_white-Shark", 1),
        ("tench", 0),
        ("tinca_tinca", 0),
        ("Tench,  tinca tinca", 0),
        ("cardigan", 5),
        ("Cardigan", 4),
        ("3", 3),
        ("0002", 2),
    ],
)
def test_a_class_is_named_as_people_do(given, index):
    assert ClassNames(NAMES).index(given) == index


def test_the_strictest_reading_wins_and_a_first_name_wins_over_a_synonym():
    """As timm names classes of ImageNet."""
    names = ClassNames(["polecat, fitch", "skunk, polecat", "Cardigan, Welsh corgi", "cardigan"])
    assert names.index("polecat") == names.index("Polecat") == 0
    assert (names.index("Cardigan"), names.index("cardigan")) == (2, 3)
    with pytest.raises(ValueError, match="several classes"):
        names.index("CARDIGAN")


def test_a_name_is_a_name_before_it_is_an_index():
    assert ClassNames(["7", "3"]).index("7") == 0
    assert ClassNames(["7", "x"]).index("1") == 1
    for names in (["7", "3"], ["1", "2", "3"]):  # "0" is the first of somebody who counts from 1?
        with pytest.raises(ValueError, match="the names are numbers, so a number is a name"):
            ClassNames(names).index("0")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("crane", r"several classes, give one's index: 2 \('crane'\), 3 \('crane'\)"),
        ("CARDIGAN", "4 .'Cardigan'., 5 .'cardigan'."),
        ("grate white shark", "no class 'grate white shark' .did you mean 'great white.*0 to 5"),
        ("6", "indices are 0 to 5"),
        ("n01440764", "WordNet ids are not known, give names or indices"),
    ],
)
def test_what_is_unknown_or_ambiguous_is_refused_with_what_is_close(given, message):
    with pytest.raises(ValueError, match=message):
        ClassNames(NAMES).index(given)


def test_the_wordnet_ids_of_imagenet_are_known():
    pytest.importorskip("timm", reason="the extra `timm`")
    names = ClassNames(IMAGENET)
    assert (names.index("n01440764"), names.index("n15075141")) == (0, 999)
    with pytest.raises(ValueError, match="the WordNet id of none"):
        names.index("n00000001")


def test_every_name_of_imagenet_is_its_own_class():
    names = ClassNames(IMAGENET)
    twice = {"crane", "maillot", "missile"}  # of two of ImageNet's own names each
    assert {names.index(name) - i for i, name in enumerate(IMAGENET) if name not in twice} == {0}
    for name in twice:
        with pytest.raises(
            ValueError, match=f"'{name}' is the name of several classes, give one's"
        ):
            names.index(name)


@pytest.mark.parametrize(
    ("names", "given"),
    [
        (("<18", "18-64"), ">18"),
        (("HER2+", "x"), "HER2-"),
        (("C++", "x"), "C#"),
        (("A-", "x"), "A"),
    ],
)
def test_signs_are_part_of_a_name(names, given):
    with pytest.raises(ValueError, match="there is no class"):
        ClassNames(names).index(given)
    assert ClassNames((*names, given)).index(given) == 2


def test_letters_whose_accents_are_taken_apart_are_the_same():
    assert ClassNames(("cafe", "caf\u00e9")).index("cafe\u0301") == 1
