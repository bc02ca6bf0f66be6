"""`learnable-cam demo`: a page on which photographs are explained."""

from collections.abc import Iterator
from contextlib import contextmanager

from ..demo import explainer, gradio, page, served
from .classifiers import device_named, open_attention, open_classifier
from .common import Chosen
from .export import images_of


@contextmanager
def demo(chosen: Chosen, attention: str | None, port: int | None) -> Iterator[str]:
    """Serve the page of a classifier and an attention's file, or None; gives its address.

    Raises:
        ModuleNotFoundError: the extra `demo` is not installed.
        ValueError: the port is taken; and as `open_classifier`.
        CheckpointError: the attention was made for another model or other layers.
    """
    gradio()  # said before a classifier is loaded
    given = open_attention(attention)
    loaded = open_classifier(chosen)
    images = images_of(loaded, ())
    loaded.model.to(device_named(chosen.device))
    with served(page(loaded, explainer(loaded, images, given)), port) as address:
        yield address
