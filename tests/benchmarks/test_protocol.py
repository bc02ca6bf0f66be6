import pytest

from benchmarks.protocol import FOLDER, load_protocol


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_protocol_loads_by_name_and_by_path(path):
    protocol = load_protocol(path.stem)
    assert protocol == load_protocol(str(path))
    assert protocol.name == path.stem
    for network in protocol.networks.values():
        assert network.stages[-1] in (network.layer, f"{network.layer}.4")
        assert network.rise_masks in (4000, 8000)  # the paper's
    # the small one is for two cores; its results say how few images they are of
    assert protocol.common >= (16 if path.stem == "photos-lite2" else 60)


def test_the_papers_table_has_its_two_networks_and_rise_its_masks():
    networks = load_protocol("imagenet").networks
    assert {name: value.rise_masks for name, value in networks.items()} == {
        "vgg16": 4000,
        "resnet50": 8000,
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("", "is no protocol"),
        ("images: [", "is no protocol"),
        ("images: folder\nnetworks: {}\ntraining: {epochs: 1, batch_size: 2}", "not empty"),
        ("images: x\nnetworks: {a: {layer: b, stages: [c], rise_masks: 1}}\n"
         "training: {epochs: 1, batch_size: 2}", "one of"),
        ("images: folder\nnetworks: {a: {layer: b}}\ntraining: {epochs: 1}", "is no protocol"),
        ("images: folder\nspeed: 3\nnetworks: {}\ntraining: {epochs: 1, batch_size: 2}", "speed"),
    ],
)  # fmt: skip
def test_a_malformed_protocol_is_refused(tmp_path, change, message):
    path = tmp_path / "mine.yaml"
    path.write_text(change)
    with pytest.raises(ValueError, match=message):
        load_protocol(str(path))


def test_an_unknown_protocol_names_those_there_are():
    named = "'photos-lite2', 'rise', 'rise-lite2', 'synthetic'"
    with pytest.raises(FileNotFoundError, match=named):
        load_protocol("nothing")
