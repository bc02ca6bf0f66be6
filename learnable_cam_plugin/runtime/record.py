"""What a file of `export_onnx` says of itself; no torch."""

import json
from typing import Any

KEY, FORMAT = "learnable_cam_plugin", 1  # of the metadata, where a JSON object is
_ASKED = {"class_names", "explains", "input_size", "normalization", "num_classes", "pixels"}


def read_record(path: Any, metadata: dict[str, str]) -> dict[str, Any]:
    """From a file's metadata; ValueError if it is none of `export_onnx`, or of another format."""
    try:
        record = json.loads(metadata[KEY])
        if record["format"] != FORMAT:
            raise ValueError(f"format {record['format']}, this version reads format {FORMAT}")
        if missing := sorted(_ASKED - set(record)):
            raise ValueError(f"its record lacks {missing}")
        return record
    except (KeyError, TypeError, ValueError) as error:
        reason = "it has no record of one" if isinstance(error, KeyError) else line(error)
        raise ValueError(f"{path} is no file of export_onnx: {reason}") from error


def line(error: Exception) -> str:
    """What an error says, on one short line."""
    return " ".join((str(error) or repr(error)).split())[:300]
