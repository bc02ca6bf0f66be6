"""The report as one page, with everything inside and nothing to be asked for.

A script block for each case holds its data, which the page reads when the case is shown: a
thousand of them are only text until then. Names come from files: they are escaped wherever they
are written, and the page's policy lets no script run but its own, which is named by its hash.
"""

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment
from jinja2.utils import htmlsafe_json_dumps
from PIL import Image

from .analysis import Analysis
from .case import Case, Trial
from .manifest import causes, plain
from .pictures import KINDS, VIRIDIS, Pixels, brightest, grey, jpeg, runs, text

_HERE = Path(__file__).parent
_SIDE = 512  # pixels, of the longer side of a photograph in the page, at most
_CASES = "<!-- the cases -->"


def around(analysis: Analysis) -> tuple[str, str]:
    """What stands before the cases' scripts, and after them."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.policies["json.dumps_kwargs"] = {}  # not sorted: settings are in an order of theirs
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    page = environment.from_string((_HERE / "page.html").read_text(encoding="utf-8")).render(
        analysis=analysis,
        causes=causes(analysis),
        turned=analysis.turned(),
        control=analysis.control(),
        cases=[_row(case) for case in analysis.cases],
        settings=plain(analysis.settings),
        shared={"names": _names(analysis), "viridis": VIRIDIS.astype(int).tolist()},
        style=(_HERE / "page.css").read_text(encoding="utf-8"),
        script=script,
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    before, after = page.split(_CASES)
    return before, after


def case_script(number: int, case: Case, pixels: Pixels | None, problem: str = "") -> str:
    """The data of a case: what the list does not say already."""
    scale = brightest(case)
    height, width = case.maps.predicted.shape
    content = {
        "photo": _photo(pixels),
        "problem": problem,
        "size": case.size,
        "rank": case.rank,
        "scale": scale,
        "grid": [height, width],
        "maps": {kind: text(grey(getattr(case.maps, kind), scale).tobytes()) for kind in KINDS},
        "regions": {kind: runs(region) for kind, region in case.regions.items()},
        "probabilities": [[i, _short(p)] for i, p in case.probabilities.items()],
        "agreement": {k: _short(v) for k, v in vars(case.agreement).items()},
        "trials": [_trial(trial) for trial in case.trials],
        "checks": case.verdict and _checks(case),
        "neighbours": [[n.name, n.label, _short(n.likeness)] for n in case.neighbours],
    }
    data = htmlsafe_json_dumps(plain(content), separators=(",", ":"))
    return f'<script type="application/json" id="data-{number}">{data}</script>\n'


def _names(analysis: Analysis) -> dict[int, str]:
    """Names of the classes that the page speaks of: of a thousand, often few."""
    used = {one for pair in analysis.pairs for one in (pair.label, pair.predicted)}
    for case in analysis.cases:
        used |= {case.photo.label, case.predicted, case.other, *case.probabilities}
        used |= {trial.top for trial in case.trials} | {n.label for n in case.neighbours}
    return {index: analysis.class_names[index] for index in sorted(used)}


def _row(case: Case) -> dict[str, Any]:
    return {
        "name": case.photo.name,
        "cause": case.cause,
        "correct": case.correct,
        "label": case.photo.label,
        "predicted": case.predicted,
        "other": case.other,
        "p": case.probabilities[case.predicted],
        "p_other": case.probabilities[case.other],
        "doubt": case.doubt,
    }


def _trial(trial: Trial) -> list[Any]:
    ours = map(_short, (trial.predicted, trial.other))
    return [trial.action, trial.region, trial.filling, *ours, trial.top, _short(trial.probability)]


def _checks(case: Case) -> dict[str, list[list[Any]]]:
    checks = {} if case.verdict is None else case.verdict.checks
    return {
        cause: [[c.name, _short(c.value), _short(c.bound), c.above, c.holds] for c in asked]
        for cause, asked in checks.items()
    }


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _photo(pixels: Pixels | None) -> str | None:
    if pixels is None:
        return None
    picture = Image.fromarray(pixels)
    picture.thumbnail((_SIDE, _SIDE))
    return text(jpeg(picture, 80))
