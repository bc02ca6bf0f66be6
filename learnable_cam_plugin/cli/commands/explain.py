"""`learnable-cam explain`: its options."""

from pathlib import Path
from typing import Any

import click

from ..common import (
    DEFAULT,
    EXIT_CODES,
    FOLDER,
    Chosen,
    attention_option,
    json_option,
    model_options,
    one_line,
    refuse_unread,
    say_json,
)

_FILES = ("overlay", "heatmap", "npy")
_SHOWN = 20  # photographs up to which each is a line


def _kinds(_: click.Context, __: click.Parameter, given: str | None) -> tuple[str, ...] | None:
    if given is None:
        return None
    kinds = tuple(dict.fromkeys(kind.strip() for kind in given.split(",")))
    unknown = [kind for kind in kinds if kind not in ("pages", "jsonl", *_FILES)]
    if unknown:
        raise click.BadParameter(f"'{unknown[0]}' is none of pages, {', '.join(_FILES)}, jsonl")
    if "pages" in kinds and len(kinds) > 1:
        raise click.BadParameter("pages are made alone: run it twice, with two folders")
    return kinds


@click.command(
    "explain",
    short_help="Explain what a classifier sees in photographs.",
    epilog="Example: learnable-cam explain photos/ --model timm:convnext_tiny --top 3 "
    f"--write overlay,npy --out explained\n\n{EXIT_CODES}",
)
@click.argument("photos", nargs=-1, type=click.Path(path_type=Path))
@model_options(DEFAULT)
@attention_option
@click.option("--out", type=FOLDER, default="explanations", help="Folder for what is written.")
@click.option(
    "--top", type=click.IntRange(1, 1000), default=1, help="How many classes of each to explain."
)
@click.option(
    "--class", "classes", multiple=True, help="A class to explain, its name or index; may be given"
    " several times, in place of --top."
)  # fmt: skip
@click.option(
    "--write",
    "kinds",
    callback=_kinds,
    help="What to write, comma-separated: overlay and heatmap (PNG), npy (float32, in [0, 1]), "
    "jsonl (nothing beside explanations.jsonl); or pages, of 8 rows beside Grad-CAM. Without it "
    "pages, and with --model, --attention or --class overlay.",
)
@click.option("--batch-size", type=click.IntRange(1, 1024), default=8, help="Images at once.")
@json_option
def explain_command(
    photos: tuple[Path, ...],
    chosen: Chosen,
    attention: str | None,
    out: Path,
    top: int,
    classes: tuple[str, ...],
    kinds: tuple[str, ...] | None,
    batch_size: int,
    as_json: bool,
) -> None:
    """Explain what a classifier sees in PHOTOS: by default EfficientNet-Lite0, beside Grad-CAM.

    PHOTOS are image files, folders of them, and patterns in quotes ("photos/**/*.jpg"). Without any
    it takes those that scikit-learn and scikit-image carry. Nothing is trained; but for pretrained
    weights of --model nothing is downloaded. A photograph that cannot be read is named and left
    out, and the exit code is then 1.

    But for pages, each photograph becomes files of its own and a line of explanations.jsonl, and
    what is there already, of the same settings, is kept: run again after an interruption, it
    finishes the rest.
    """
    if classes and top != 1:
        raise click.UsageError(f"--class explains those classes: leave out --top {top}")
    if kinds is None:
        plain = chosen.model == DEFAULT and attention is None and not classes
        kinds = ("pages",) if plain else ("overlay",)
    again = "run again for all of them" if kinds == ("pages",) else "run again to finish the rest"
    unread: list[str] = []

    def interrupted() -> str:
        return f"what was made before is in {out}; {again}" if out.exists() else "run it again"

    with one_line("photos", interrupted):
        from ..classifiers import device_named, open_classifier

        loaded = open_classifier(chosen)
        if kinds == ("pages",):
            if classes:
                raise click.UsageError("--class goes with --write overlay, heatmap, npy or jsonl")
            from ..pages import explain_photos

            loaded.model.to(device_named(chosen.device))
            rows, unread = explain_photos(
                loaded, photos, out, top, attention=attention, batch=batch_size
            )
            _say_pages(rows, out, as_json)
        else:
            from ..explain import Wanted, explain_each

            wanted = Wanted(tuple(k for k in kinds if k in _FILES), top, classes, batch_size)
            before, count = 0, 0
            for row, new in explain_each(loaded, chosen, attention, photos, out, wanted, unread):
                before, count = before + (not new), count + 1
                if as_json:
                    say_json(row)
                elif new and count - before <= _SHOWN:
                    _say(row["photo"], row["explanations"])
            if not as_json and count:
                kept = f", {before} of them before" if before else ""
                click.echo(f"{count} explained{kept}: see {out / 'explanations.jsonl'}")
            if as_json:
                for problem in unread:
                    say_json({"error": problem})
        refuse_unread(unread)


def _say(photo: str, explanations: list[dict[str, Any]]) -> None:
    name = click.format_filename(photo, shorten=True)
    for row in explanations:
        click.echo(f"{name}: {row['name']}, p = {row['probability']:.2f}")


def _say_pages(rows: list[dict[str, Any]], out: Path, as_json: bool) -> None:
    for row in rows:
        if as_json:
            say_json(row)
        else:
            _say(row["photo"], [row])
    if rows and not as_json:
        first, last = (out / rows[i]["picture"] for i in (0, -1))
        click.echo(f"see {first}" + (f" to {last.name}" if last != first else ""))
