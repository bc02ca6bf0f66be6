"""What .ci/versions.txt lists is what setup.cfg asks for, and is installed here."""

import configparser
import warnings
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
LINES = (ROOT / ".ci" / "versions.txt").read_text().splitlines()
LISTED = {row[0]: row[1:] for row in map(str.split, LINES) if row and row[0] != "#"}


def required():
    """Package -> what is asked of its version."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["options"]["install_requires"].split()
    return {canonicalize_name(r.name): r.specifier for r in map(Requirement, lines)}


def test_the_oldest_of_each_is_the_least_that_is_asked_for():
    asked = {name: [s.version for s in spec] for name, spec in required().items() if spec}
    for name, least in asked.items():
        oldest, _ = {canonicalize_name(k): v for k, v in LISTED.items()}[name]
        assert [Version(one) for one in least] == [Version(oldest)], name


@pytest.mark.parametrize("package", LISTED)
def test_none_that_is_older_is_installed(package):
    oldest, newest = map(Version, LISTED[package])
    here = Version(version(package))
    assert oldest <= newest
    assert here >= oldest
    if here.release > newest.release:
        warnings.warn(
            f"{package} {here} is installed, and .ci/versions.txt lists {newest} as the newest: "
            "raise it, if the conformance tests pass",
            stacklevel=1,
        )
