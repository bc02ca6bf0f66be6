"""Protocols of the repository with smaller numbers."""

import yaml

from benchmarks.protocol import FOLDER


def smaller(name, path, only=None, **changes):
    """The path of a protocol of the repository with a few images, and few masks for RISE; of its
    networks `only` these."""
    content = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    content |= {"common": 3, "few": 2, "mosaics": 3, **changes}
    if only is not None:
        content["networks"] = {network: content["networks"][network] for network in only}
    for network in content["networks"].values():
        network["rise_masks"] = 24
    path.write_text(yaml.safe_dump(content))
    return str(path)
