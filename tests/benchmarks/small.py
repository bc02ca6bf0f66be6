"""Protocols of the repository with smaller numbers."""

import yaml

from benchmarks.protocol import FOLDER


def smaller(name, path, **changes):
    """The path of a protocol of the repository with a few images, and few masks for RISE."""
    content = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    content |= {"common": 3, "few": 2, "mosaics": 3, **changes}
    for network in content["networks"].values():
        network["rise_masks"] = 24
    path.write_text(yaml.safe_dump(content))
    return str(path)
