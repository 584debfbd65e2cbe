"""Search for bytes that break a decoder, guided by coverage (Atheris, which is installed by hand).

    pip install atheris
    python tools/fuzz.py NAME [SECONDS]      one of tests/fuzz/decoders.py; without arguments the names

Findings are written into tests/fuzz/findings, where the tests try them from then on.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "fuzz"))


def main() -> None:
    import atheris

    with atheris.instrument_imports(include=["swarm_protocol", "swarm_predict", "swarm_probe", "swarm_storage"]):
        from decoders import DECODERS

    names = {decoder.name: decoder for decoder in DECODERS}
    if len(sys.argv) < 2 or sys.argv[1] not in names:
        sys.exit(f"give one of: {', '.join(names)}")
    decoder = names[sys.argv[1]]
    seconds = sys.argv[2] if len(sys.argv) > 2 else "60"

    def one(data: bytes) -> None:
        try:
            decoder.decode(data)
        except decoder.allowed:
            return
        except Exception:
            where = ROOT / "tests" / "fuzz" / "findings" / f"{decoder.name}-{hashlib.sha256(data).hexdigest()[:12]}"
            where.write_bytes(data)
            print(f"found: {where}", file=sys.stderr)
            raise

    with tempfile.TemporaryDirectory() as corpus:
        for number, example in enumerate(decoder.examples):
            (Path(corpus) / str(number)).write_bytes(example)
        atheris.Setup(
            [sys.argv[0], f"-max_total_time={seconds}", "-max_len=65536", "-artifact_prefix=/tmp/", corpus], one
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
