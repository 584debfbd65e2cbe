"""Read the model that the swarm measures for: by name, or from a Hugging Face config.json.

A focus holds what probes need (one layer, the vocabulary); a plan needs the whole shape. The shape read from a file is
kept here, because its name alone does not identify it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from swarm_predict.model.catalogue import model_named
from swarm_predict.model.names import kept
from swarm_predict.types import UnknownModel
from swarm_protocol.text import safe

if TYPE_CHECKING:
    from swarm_predict.model.shapes import ModelShape
    from swarm_protocol.messages.viewer_messages import Focus

MAX_CONFIG_BYTES: Final = 16 << 20  # one that lists each module's format has megabytes

_from_files: dict[str, ModelShape] = {}


def read_model(text: str) -> ModelShape:
    """Return the model of this name, or of this config.json or the folder that holds it. Raises UnknownModel."""
    path = Path(text).expanduser()
    if path.is_dir():
        path /= "config.json"
    elif path.suffix.lower() != ".json":
        return model_named(text)
    from swarm_predict.model.hf_config import from_config  # most people name a model of the catalogue

    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise UnknownModel(f"{safe(str(path))} is longer than any config.json; correct --model")
        config = path.read_text("utf-8-sig")
    except OSError as error:
        raise UnknownModel(f"cannot read {safe(str(path))} ({error.strerror}); correct --model") from error
    except UnicodeDecodeError as error:
        raise UnknownModel(f"{safe(str(path))} is not text; give --model a Hugging Face config.json") from error
    whole = path.resolve()
    name = whole.parent.name if path.name == "config.json" else path.stem.removesuffix("_config").replace("--", "/")
    shape = from_config(config, kept(name or path.stem))
    _from_files[shape.name] = shape
    return shape


def model_of(focus: Focus) -> ModelShape:
    """Return the shape that a focus means: of the file that was read, else by its name. Raises UnknownModel."""
    shape = _from_files.get(focus.model)
    return shape if shape is not None and shape.layer == focus.layer else model_named(focus.model)
