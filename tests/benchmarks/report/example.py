"""Made-up results, with names that would break a page that took them for markup."""

import json
from pathlib import Path

import numpy as np
from matplotlib.image import imsave

EVIL = '<script>window.evil=1</script></script>"quoted" & co <img src=x onerror=window.evil=1> $'
METRICS = [
    {"key": "AD 100%", "title": "average drop", "better": "lower", "unit": "%", "group": "faith"},
    {"key": "AD 50%", "title": EVIL, "better": "lower", "unit": "%", "group": "faith"},
    {"key": "insertion", "title": "area", "better": "higher", "unit": "", "group": "curves"},
]
# name, kind, passes, mean of AD 100 % on the common subset; 100 is before 9 as a text
METHODS = [
    ("LearnableCAM", "learned", (1, 0), 9.0),
    ("Grad-CAM", "gradient", (1, 1), 25.42),
    (EVIL, "gradient-free", (1, 0), None),
    ("Score-CAM", "perturbation", (1281, 0), 100.0),
    ("random map", "floor", (0, 0), 9.5),
]


def scores(mean: float | None, n: int) -> dict:
    drop = {"mean": mean, "low": mean and mean - 1, "high": mean and mean + 1, "n": n}
    area = {"mean": 0.9, "low": None, "high": None, "n": n}
    return {"AD 100%": drop, "AD 50%": {**drop, "mean": 40.0}, "insertion": area}


def write_example(tmp_path: Path) -> Path:
    """Results of five methods on two images; Score-CAM is scored on the common subset only."""
    (tmp_path / "gallery").mkdir()
    names = [f"gallery/{i}.png" for i in range(2)]
    for i, name in enumerate(names):
        imsave(tmp_path / name, np.full((8, 8, 3), 0.3 * (i + 1)))
    methods = [
        {
            "method": name,
            "group": group,
            "reference": EVIL,
            "forward": float(forward),
            "backward": float(backward),
            "ms": 10.0,
            "note": "",
            "common": scores(mean, 60),
            "all": {} if name == "Score-CAM" else scores(mean and mean + 50, 434),
        }
        for name, group, (forward, backward), mean in METHODS
    ]
    masked = {"100%": 0.81, "50%": None, "15%": 0.01}
    results = {
        "protocol": "photos",
        "network": EVIL,
        "command": f"run {EVIL}",
        "seed": 0,
        "versions": {"torch": EVIL},
        "hardware": {"processor": "a processor", "cores": 2, "device": "cpu"},
        "data": {"name": "val", "images": 434, "common": 60, "mosaics": 60},
        "notes": [EVIL],
        "metrics": METRICS,
        "methods": methods,
        "gallery": {
            "images": [{"title": EVIL, "file": name} for name in names],
            "maps": {
                name: [{"file": file, "masked": masked} for file in names]
                for name in ("LearnableCAM", EVIL)
            },
        },
    }
    results["gallery"]["maps"]["LearnableCAM"][1] = None
    (tmp_path / "results.json").write_text(json.dumps(results))
    return tmp_path


def edit(folder: Path, **changes: object) -> None:
    path = folder / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
