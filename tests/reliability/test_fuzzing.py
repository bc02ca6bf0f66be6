"""Whatever is in a file: it is refused in plain words, or is an attention that works."""

from collections import Counter

import pytest

from .mutations import KINDS, kind_of, mutated, outcome, whole_files

SEEDS = 2_000


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return list(whole_files(tmp_path_factory.mktemp("whole")))


def test_a_changed_file_is_refused_or_works(whole, tmp_path):
    path = tmp_path / "a.safetensors"
    counts, expected = Counter(), []
    for raw in whole:
        path.write_bytes(raw)
        expected.append(outcome(path))
        assert expected[-1].startswith("loaded")
    for seed in range(SEEDS):
        which = seed // len(KINDS) % len(whole)
        path.write_bytes(mutated(whole[which], seed))
        found = outcome(path)
        kind = kind_of(seed)
        counts[kind, found.split()[0]] += 1
        if kind in ("bytes", "header"):  # without a right digest it is what it was, or nothing
            assert found.startswith("refused") or found == expected[which], (seed, found)
    for kind in KINDS:
        assert counts[kind, "refused:"] > SEEDS / len(KINDS) / 4, counts
    assert counts["record", "loaded"] > 20, counts  # else the check of what works is empty
    assert counts["tensors", "loaded"] > 20, counts
