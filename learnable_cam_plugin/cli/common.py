"""What the commands share: their options, errors in a line, output for machines. No torch here."""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

FOLDER = click.Path(file_okay=False, writable=True, path_type=Path)
FILE = click.Path(path_type=Path)
DEFAULT = "efficientnet-lite0"
EXIT_CODES = (
    "Exit codes: 0 all is done; 1 something is not, and standard error says what; 2 the command "
    "was spelt wrong."
)
# what is missing -> the extra that brings it, whatever the command
_EXTRAS = {"timm": "timm", "transformers": "transformers", "onnx": "export", "gradio": "demo"}
_LONGEST = 1000  # characters of a line
Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Chosen:
    """A classifier, as the options name it, see `load_classifier`; "" for none."""

    model: str
    weights: str | None
    num_classes: int | None
    names: Path | None
    device: str


def model_options(
    default: str | None = None, required: bool = False, device: bool = True
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options that name a classifier, given to the command as one `Chosen`.

    Args:
        default: the classifier that is taken without --model, if any.
        required: whether --model must be given.
        device: whether one can be chosen.
    """
    named: dict[str, Any] = (
        {} if default is None else {"default": default}
    )  # a None would count as given
    options = [
        click.option(
            "--model",
            required=required,
            **named,
            help="torchvision:NAME, timm:NAME, transformers:NAME, package.module:function, or "
            f"{DEFAULT}.",
        ),
        click.option(
            "--weights",
            metavar="FILE|random",
            help="A state dict of your own, or 'random'; the library's pretrained ones without.",
        ),
        click.option("--num-classes", type=click.IntRange(1), help="Of --weights."),
        click.option("--names", type=FILE, help="A text file with the name of a class a line."),
    ]
    if device:
        kinds = click.Choice(["auto", "cpu", "cuda"])
        options.append(click.option("--device", type=kinds, default="auto", help="Where it runs."))

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def wrapped(**given: Any) -> Any:
            given.setdefault("device", "cpu")
            names = Chosen.__dataclass_fields__
            chosen = Chosen(
                **{name: given.pop(name) for name in names if name != "model"},
                model=given.pop("model") or "",
            )
            return command(chosen=chosen, **given)

        for option in reversed(options):
            wrapped = option(wrapped)
        return wrapped

    return decorate


def attention_option(command: Command) -> Command:
    """--attention, a file or folder, or of the hub."""
    return click.option(
        "--attention",
        metavar="FILE",
        help="A trained attention: a file, a folder, or hf://owner/name; without it the one that "
        "comes with the package.",
    )(command)


def json_option(command: Command) -> Command:
    """--json, for machines."""
    return click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")(command)


@contextmanager
def one_line(extra: str, interrupted: str | Callable[[], str] = "run it again") -> Iterator[None]:
    """What users can mend, said in a line and no traceback; warnings are notes of a line.

    Args:
        extra: the extra of the package that has what may be missing.
        interrupted: what to do after Ctrl-C; or what says so then.
    """
    with warnings.catch_warnings():
        warnings.showwarning = _note
        warnings.filterwarnings("default", category=UserWarning)
        try:
            yield
        except (BrokenPipeError, click.Abort, click.exceptions.Exit):
            raise  # of `| head`; click ends quietly
        except ModuleNotFoundError as error:
            name = error.name or str(error)
            wanted = _EXTRAS.get(name.partition(".")[0], extra)
            install = f"{name} is missing: pip install 'learnable-cam-plugin[{wanted}]'"
            raise click.ClickException(install) from error
        # a full disk, a folder of another training, no memory left on a GPU
        except (
            OSError,
            ValueError,
            TypeError,
            RuntimeError,
            ArithmeticError,
            MemoryError,
        ) as error:
            raise click.ClickException(line(str(error) or type(error).__name__)) from error
        except KeyboardInterrupt as error:
            what = interrupted if isinstance(interrupted, str) else interrupted()
            raise click.ClickException(f"interrupted; {what}") from error


def line(text: str) -> str:
    """Text on one line, shortened in its middle if it is long."""
    text = " ".join(text.split())
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]} ... {text[-half:]}"


def _note(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"note: {line(str(message))}", err=True)


def say_json(value: Mapping[str, Any] | list[Any], indent: int | None = None) -> None:
    """A value as JSON on standard output, on a line unless indented."""
    click.echo(json.dumps(value, indent=indent, default=str))


def refuse_unread(unread: list[str]) -> None:
    """Name the photographs that were left out, and end with exit code 1 if there are any."""
    for problem in unread:
        click.echo(f"left out: {line(problem)}", err=True)
    if unread:
        raise click.ClickException(f"photographs that could not be read: {len(unread)}")
