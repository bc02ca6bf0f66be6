"""The table of docs/reference/conformance.md: a row a test of this folder.

`python -m tests.conformance.cases` writes it into the page; `test_cases` finds it stale, a test
without a row, and a row without a test.
"""

from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "conformance.md"


class Case(NamedTuple):
    """What is asked, what the host does and what ours does (nothing: the same), and why."""

    what: str
    host: str
    ours: str = ""
    why: str = ""


GRAD_CAM = {
    "arguments": Case(
        "constructor and call, by position and by name", "`model`, `target_layers`, "
        "`reshape_transform`; `input_tensor`, `targets`, `aug_smooth`, `eigen_smooth`",
    ),
    "maps": Case(
        "one or two images, square or not, with and without a class and `eigen_smooth`, one layer "
        "or two", "float32 numpy, (N, H, W), in [0, 1]",
    ),
    "top_class": Case("`targets=None`; `cam.outputs`", "the top class of each; the scores"),
    "classes_from_the_last": Case("a class below 0", "counts from the last"),
    "each_image_by_itself": Case("a batch, and its images one by one", "the same maps"),
    "aug_smooth": Case("`aug_smooth=True`", "the mean over flips and factors"),
    "other_targets_of_a_class": Case("`ClassifierOutputSoftmaxTarget`", "a map"),
    "targets_without_a_class": Case(
        "any function of the scores as a target", "a map", "`TypeError` that names the targets "
        "that work", "a learned map belongs to a class",
    ),
    "single_logit": Case("one logit, `BinaryClassifierOutputTarget`", "two maps"),
    "one_target_for_a_batch": Case(
        "a list of one target for several images", "a map of the first image, blank ones of the "
        "rest", "the target is for all", "a blank map says nothing",
    ),
    "class_out_of_range": Case("a class beyond the last", "`IndexError`"),
    "one_channel_images": Case("images of one channel", "maps"),
    "volumes": Case("volumes (N, C, D, H, W)", "maps (N, D, H, W)"),
    "tokens": Case(
        "a layer of tokens", "takes a `reshape_transform`", "the same; and none for tokens that "
        "make a grid of the images' proportions", "less to know",
    ),
    "with_block": Case("after a `with` block", "no hook is left"),
    "index_error_in_the_with_block": Case(
        "an `IndexError` in a `with` block", "printed, and swallowed", "reaches the caller",
        "a class out of range is a mistake that must be seen",
    ),
    "hooks_between_calls": Case(
        "hooks between two calls", "stay until `release()`", "none", "hooks live for one call: the "
        "classifier is left alone",
    ),
    "mode_of_the_model": Case(
        "a model in training mode", "is put in eval mode for good", "in eval mode for the pass, as "
        "it was afterwards", "the classifier is left alone",
    ),
    "gradients_of_the_parameters": Case(
        "`.grad` of the parameters", "zeroed, then filled", "untouched", "there is no backward "
        "pass",
    ),
    "frozen_parameters": Case(
        "`model.requires_grad_(False)`", "an error", "maps", "no gradient is taken",
    ),
    "without_autograd": Case(
        "under `torch.no_grad()` or `inference_mode()`", "an error", "the same maps", "no gradient "
        "is taken",
    ),
    "arguments_of_gradients": Case(
        "`compute_input_gradient`, `uses_gradients`", "arguments", "attributes, False; no "
        "arguments", "there are no gradients",
    ),
    "object_with_logits": Case(
        "a model that returns an object with `.logits`", "an error", "maps; `output=` for dicts "
        "and tuples", "the models of transformers do",
    ),
    "layers_by_name": Case(
        "layers by name, `target_layers=[\"layer4\"]`", "an error", "maps", "names outlive a "
        "wrapper, and a copy",
    ),
    "nan_images": Case(
        "an image of NaN", "a blank map, or one of NaN", "`ValueError` that names the image",
        "no silent nonsense",
    ),
    "the_map_follows_the_weights": Case("after `load_state_dict`", "the map of the new weights"),
    "many_calls_keep_no_memory": Case("in a loop", "no tensor is kept"),
    "of_the_libraries_meta_methods": Case(
        "as `base_method` of FinerCAM, RefineCAM, SESS", "maps",
        why="FinerCAM hands no arguments on: `base_method=functools.partial(LearnableCAM, "
        "attention=...)`",
    ),
    "the_librarys_metrics": Case("confidence change, ROAD", "a score an image"),
    "shown_over_the_photograph": Case("`show_cam_on_image`", "a picture"),
    "half_precision": Case(
        "a model in bfloat16", "an error", "float32 maps", "nothing goes through numpy that it "
        "cannot hold",
    ),
    "values": Case(
        "the values, where the head is pooling and one linear layer, of no negative evidence",
        "classic CAM", "classic CAM with `attention=\"head\"`",
        "left out, `attention` is the one that comes with the package, and its maps are its own; "
        "there is no ReLU before the scaling to [0, 1]",
    ),
}  # fmt: skip

LAYER_GRAD_CAM = {
    "arguments": Case(
        "constructor and call, by position and by name", "`forward_func`, `layer`, `device_ids`; "
        "the six of `attribute`, and `grad_kwargs` since Captum 0.8",
    ),
    "one_map_at_the_layers_size": Case(
        "the map", "(N, 1, h, w) at the layer's size", "the same with an attention of that layer; "
        "left out, at the size of the finer layer that is found",
        "one map is made of several layers",
    ),
    "targets": Case(
        "a class as int, tuple or tensor; one an image as list, tensor, list of tuples; below 0",
        "that class",
    ),
    "malformed_targets": Case("targets of another kind or number", "`AssertionError`"),
    "class_out_of_range": Case("a class beyond the last", "an error that says so"),
    "one_score_needs_no_target": Case("a model of one score, no target", "a map"),
    "relu_attributions": Case("`relu_attributions=True`", "the positive part"),
    "attr_dim_summation": Case(
        "`attr_dim_summation=False`", "(N, C, h, w) that sum to the map",
        "the same of an attention with a row of weights a class; else `ValueError`",
        "a map of convolutions is no sum over the layer's channels",
    ),
    "attribute_to_layer_input": Case(
        "`attribute_to_layer_input=True`", "the map of what the layer is given",
        "the same with a trained attention; else `ValueError`",
        "without one, layers are found by what they give",
    ),
    "several_inputs_and_additional_arguments": Case(
        "several inputs, `additional_forward_args`", "passed on", "the same with a trained "
        "attention; else `ValueError`", "without one, the classifier is run on images alone",
    ),
    "device_ids": Case("`device_ids` as the third argument", "taken"),
    "forward_function": Case(
        "a function in place of the model", "a map", "the same with an attention of one layer; "
        "else `ValueError`", "a function hides the head and the layers",
    ),
    "data_parallel": Case("a DataParallel of the model", "the same map"),
    "grad_kwargs": Case("`grad_kwargs`", "passed to autograd", "taken, and not used",
                        "no gradient is taken"),
    "frozen_parameters": Case("`model.requires_grad_(False)`", "the same map"),
    "under_no_grad": Case(
        "under `torch.no_grad()`; under `inference_mode()`", "the same map; an error",
        "the same map in both", "no gradient is taken",
    ),
    "graph_of_the_result": Case(
        "`requires_grad` of the result, of inputs that have it", "True", "False", "there is no "
        "graph, which is why it costs one pass",
    ),
    "layer_of_vectors": Case(
        "a layer that gives vectors (N, C)", "(N, 1)", "`ValueError` that names it",
        "it has no places to show",
    ),
    "layer_of_several_tensors": Case(
        "a layer that gives a tuple", "a tuple of maps", "`TypeError` that names it, and "
        "`reshape_transform`", "an attention belongs to one tensor of feature maps",
    ),
    "unused_layer": Case(
        "a layer on which no score depends", "autograd's error, or zeros with "
        "`materialize_grads`", "`calibrate` names it in a `ValueError`", "a blank map says nothing",
    ),
    "mode_of_the_model": Case(
        "a model in training mode", "runs in it, dropout and all", "in eval mode for the pass, as "
        "it was afterwards", "two calls give the same map",
    ),
    "gradients_of_the_parameters": Case("`.grad` of the parameters", "untouched"),
    "hooks_after_a_call": Case("hooks after a call, or an error", "none"),
    "object_with_logits": Case(
        "a model that returns an object with `.logits`", "an error", "a map; `ScoresOf` for dicts "
        "and tuples", "the models of transformers do",
    ),
    "interpolate": Case("`LayerAttribution.interpolate`", "at the image's size"),
    "composers": Case("NoiseTunnel of three kinds", "the mean, or the variance"),
    "captums_metrics": Case("infidelity, sensitivity", "a score an image"),
    "half_precision": Case("a model in bfloat16", "a map in bfloat16"),
    "values": Case(
        "the values, where the head is pooling and one linear layer",
        "the row of weights times the maps, over the number of places",
        "with `attention=\"head\"` the row times the maps, and the bias",
        "it is the class's score, place by place: its mean is the score",
    ),
}  # fmt: skip

GROUPS = {
    "test_grad_cam": ("pytorch-grad-cam", "GradCAM", "LearnableCAM", GRAD_CAM),
    "test_layer_grad_cam": ("Captum", "LayerGradCam", "LayerLearnableCam", LAYER_GRAD_CAM),
}


def tables() -> str:
    """The page's tables: all cases, those that differ first."""
    parts = []
    for name, (library, host, ours, cases) in GROUPS.items():
        parts += [f"## {library}", ""]
        parts += [f"| case | `{host}` | `{ours}` | why | test |", "| --- | --- | --- | --- | --- |"]
        for key, case in sorted(cases.items(), key=lambda item: not item[1].ours):
            own = case.ours or "the same"
            parts.append(f"| {case.what} | {case.host} | {own} | {case.why} | `{key}` |")
        parts += [
            "",
            f"Each is a test of `tests/conformance/{name}.py`, called `test_` and the name.",
            "",
        ]
    return "\n".join(parts)


def written(page: str) -> str:
    """The page with the tables of now in it."""
    head, _, rest = page.partition("<!-- cases -->\n")
    _, _, tail = rest.partition("<!-- end -->")
    return f"{head}<!-- cases -->\n\n{tables()}\n<!-- end -->{tail}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
