"""`learnable-cam export`: its options."""

from pathlib import Path

import click

from ..common import (
    DEFAULT,
    EXIT_CODES,
    FILE,
    Chosen,
    attention_option,
    json_option,
    model_options,
    one_line,
    say_json,
)


@click.command(
    "export",
    short_help="One ONNX file of a classifier and its explanation.",
    epilog="Example: learnable-cam export --model torchvision:resnet50 --attention my-training "
    f"--pixels --out explained.onnx\n\n{EXIT_CODES}",
)
@click.argument("photos", nargs=-1, type=click.Path(path_type=Path))
@model_options(DEFAULT, device=False)  # a file runs anywhere
@attention_option
@click.option("--top", type=click.IntRange(1), help="Maps of so many classes; the top one without.")
@click.option("--classes", is_flag=True, help="A second input says which classes are explained.")
@click.option(
    "--contrast", is_flag=True, help="Of the top class rather than the second; see below."
)
@click.option("--pixels", is_flag=True, help="Photographs of 8 bits in: resized and normalised.")
@click.option("--dynamic-size", is_flag=True, help="Images of any height and width.")
@click.option("--grid", is_flag=True, help="Maps of the mechanism's own grid, not the image's.")
@click.option("--uint8", is_flag=True, help="Maps of 0 to 255.")
@click.option("--out", type=FILE, default="explained.onnx", help="The file.")
@json_option
def export_command(
    photos: tuple[Path, ...],
    chosen: Chosen,
    attention: str | None,
    top: int | None,
    classes: bool,
    contrast: bool,
    pixels: bool,
    dynamic_size: bool,
    grid: bool,
    uint8: bool,
    out: Path,
    as_json: bool,
) -> None:
    """Write a classifier with its explanation to one ONNX file: logits and saliency_map.

    onnxruntime and OpenVINO run it, without torch. PHOTOS show how the classifier is read: without
    any, those that scikit-learn and scikit-image carry; where a head is linearised (VGG's), give 8
    to 32 varied ones of your own. With --classes and --contrast the second input is a class and the
    one that it is held against.
    """
    with one_line("export"):
        from ..classifiers import open_classifier
        from ..export import export

        size = "grid" if grid else "image"
        settings = {"top": top, "size": size, "uint8": uint8, "contrast": contrast}
        inputs = {"classes": classes, "pixels": pixels, "dynamic_size": dynamic_size}
        told = export(open_classifier(chosen), attention, photos, out, settings, inputs)
        if as_json:
            say_json(told, indent=1)
        else:
            shapes = {**told["inputs"], **told["outputs"]}
            click.echo(", ".join(f"{name} {shape}" for name, shape in shapes.items()))
            megabytes = out.stat().st_size / 1e6
            click.echo(f"{out}: {megabytes:.1f} MB; learnable-cam info {out} says what is in it")
