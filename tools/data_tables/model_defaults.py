"""Write model/data/family_defaults.txt of predict from the configuration classes of the installed transformers.

Usage: python tools/data_tables/model_defaults.py            (a test compares what it would write with what is there)
"""

from __future__ import annotations

import dataclasses
import re
import textwrap
from pathlib import Path
from typing import Any

FAMILIES = Path(__file__).parents[2] / "predict" / "swarm_predict" / "model" / "families"
TABLE = FAMILIES.parent / "data" / "family_defaults.txt"
# What says how large the model is has to stand in the configuration itself; lists have rules of their own.
NEVER = {
    "hidden_size", "num_hidden_layers", "n_embd", "n_embed", "n_layer", "n_layers", "num_layers", "d_model", "dim",
    "model_dim", "layer_types", "hybrid_override_pattern", "linear_attn_config", "attention", "full", "norm",
}  # fmt: skip
FALSE_MATTERS = {"mamba_rms_norm", "attn_output_gate", "use_sliding_window", "tie_word_embeddings"}
HEAD = """# Written by tools/data_tables/model_defaults.py from transformers {version} (Apache-2.0); a test compares it with the installed classes.
# model_type: field=value …, of fields whose default is neither null nor zero
"""  # noqa: E501 - as long as the page's line


def fields_read() -> set[str]:
    """Return every word in quotes of the readers: a superset of the fields that they read."""
    sources = (path.read_text() for path in FAMILIES.glob("*.py") if path.name != "defaults.py")
    return {word for text in sources for word in re.findall(r'"([A-Za-z_][A-Za-z_0-9]+)"', text)} - NEVER


def defaults_of(kind: str, fields: set[str]) -> dict[str, Any] | None:
    """Return the defaults; None: transformers knows no such model_type, or its class declares none."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if kind not in CONFIG_MAPPING:
        return None
    found = {}
    for field in dataclasses.fields(CONFIG_MAPPING[kind]):
        value = field.default
        whole = isinstance(value, bool | int | str) or (isinstance(value, float) and value.is_integer())
        if field.name in fields and whole and (value or field.name in FALSE_MATTERS):
            found[field.name] = int(value) if isinstance(value, float) else value
    return dict(sorted(found.items()))


def kinds() -> list[str]:
    from swarm_predict.model.hf_config import DEFAULTS_OF, FAMILIES

    return sorted({DEFAULTS_OF.get(kind, kind) for kind in FAMILIES})


def main() -> None:
    import transformers

    fields = fields_read()
    lines: list[str] = []
    for kind in kinds():
        found = defaults_of(kind, fields)
        if found:
            text = f"{kind}: " + " ".join(f"{key}={value}" for key, value in found.items())
            lines += textwrap.wrap(text, 118, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    table = "\n".join(lines) + "\n"
    TABLE.write_text(HEAD.format(version=transformers.__version__) + table)


if __name__ == "__main__":
    main()
