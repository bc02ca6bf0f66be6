"""The page, on Gradio: a thin layer on `look`. Gradio is imported when it is asked for."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from ..export import ExplainedClassifier
from ..loading import LoadedClassifier
from ..masking import FILLINGS
from ..wording import needed
from .look import Look, look_at, mask, overlay, sentence

HOST = "127.0.0.1"
START = 0.25  # of the threshold
_HOUR = 3600
# The browser itself refuses whatever the page might ask of any other host.
_ONLY_HERE = b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"


def gradio() -> Any:
    """Gradio, told to report nothing to its makers.

    Raises:
        ModuleNotFoundError: the extra `demo` is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    return needed("demo", "gradio")[0]


def page(loaded: LoadedClassifier, explained: ExplainedClassifier) -> Any:
    """A `gradio.Blocks`: a photograph, its top classes, a threshold; the map, what is left of the
    photograph, and the probabilities.

    What visitors give is deleted after an hour, or two, and when the page is closed.

    Args:
        loaded, explained: the classifier, and what `explainer` makes of it.
    """
    gr = gradio()

    def seen(photo: str | None) -> tuple[Look | None, Any]:
        if photo is None:
            return None, gr.Radio(choices=[], value=None)
        try:
            look = look_at(loaded, explained, photo)
        except (OSError, ValueError) as error:
            raise gr.Error(str(error).replace(photo, Path(photo).name)) from error
        named = zip(look.names, look.probabilities, strict=True)
        choices = [(f"{name}, p = {p:.2f}", number) for number, (name, p) in enumerate(named)]
        return look, gr.Radio(choices=choices, value=0)

    def shown(
        look: Look | None, number: int | None, threshold: float, filling: str, dim: bool
    ) -> list[Any]:
        if look is None or number is None:
            return [None, None, None, ""]
        left = mask(loaded, look, number, threshold, filling, dim)
        probabilities = dict(zip(look.names, left.probabilities, strict=True))
        map_over = overlay(loaded, look, number)
        return [map_over, left.pixels, probabilities, sentence(look, left, number)]

    shape = {"interactive": False, "height": 260, "buttons": ["download", "fullscreen"]}
    title = f"What {loaded.source} sees"
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(_HOUR, _HOUR)) as blocks:
        gr.Markdown(f"# {title}")
        look = gr.State(None, time_to_live=_HOUR)
        with gr.Row():
            with gr.Column():
                photo = gr.Image(
                    type="filepath",
                    sources=["upload", "clipboard"],
                    label="Photograph",
                    height=320,
                    elem_id="photo",
                )
                # Its own would open the file, with errors of its own, and `read_photo` does.
                photo.preprocess = lambda given: None if given is None else given.path
                number = gr.Radio(choices=[], label="Class", elem_id="class")
                threshold = gr.Slider(
                    0, 1, START, step=0.01, label="Threshold of the map", elem_id="threshold"
                )
                filling = gr.Radio(
                    list(FILLINGS), value=FILLINGS[0], label="In place of the rest"
                )  # fmt: skip
                dim = gr.Checkbox(
                    False, label="Dim what is kept by the map, as average drop does", elem_id="dim"
                )
            with gr.Column():
                with gr.Row():
                    over = gr.Image(label="Map", elem_id="map", **shape)
                    left = gr.Image(label="What is kept", elem_id="kept", **shape)
                told = gr.Markdown(elem_id="told")
                bars = gr.Label(
                    label="Probabilities, of what is kept", show_heading=False, elem_id="bars"
                )
        asked, answered = [look, number, threshold, filling, dim], [over, left, bars, told]
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        found = photo.change(seen, photo, [look, number], api_visibility="private")
        found.success(shown, asked, answered, **quiet)
        found.failure(  # what was shown is of another photograph
            lambda: [None, gr.Radio(choices=[], value=None), None, None, None, ""],
            None,
            [look, number, *answered],
            **quiet,
        )
        for moved in (number.input, threshold.change, filling.input, dim.input):
            moved(shown, asked, answered, trigger_mode="always_last", **quiet)
    return blocks


@contextmanager
def served(blocks: Any, port: int | None = None) -> Iterator[str]:
    """Serve a page to this machine alone, which asks nothing of any other; gives its address.

    Args:
        blocks, port: what `page` gives; None takes the first port from 7860 that is free.

    Raises:
        ValueError: the port is taken.
    """
    middleware = import_module("starlette.middleware").Middleware
    try:
        blocks.launch(
            server_name=HOST,
            server_port=port,
            share=False,
            inbrowser=False,
            quiet=True,
            show_error=True,
            prevent_thread_lock=True,
            ssr_mode=False,
            footer_links=[],
            app_kwargs={"middleware": [middleware(_only_here)]},
        )
    except OSError as error:
        if "empty port" not in str(error):
            raise
        taken = "no port from 7860 is free" if port is None else f"port {port} is taken"
        raise ValueError(f"{taken}: give another one with --port") from error
    try:
        yield blocks.local_url
    finally:
        blocks.close(verbose=False)


def _only_here(app: Any) -> Any:
    """An ASGI application whose pages may ask nothing of other hosts."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        async def marked(message: Any) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", _ONLY_HERE)
                message = {**message, "headers": [*message["headers"], policy]}
            await send(message)

        await app(scope, receive, marked)

    return answer
