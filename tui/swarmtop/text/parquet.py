"""Write samples as Parquet: the columns of the CSV with their types, a piece of the export one row group.

It is made from the text of a CSV export, so that the two always agree, whatever the source. Needs pyarrow, an extra:
`pip install 'swarmtop[parquet]'`.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Final

from swarmtop.errors import CommandError

_ROWS: Final = 50_000  # of a row group, about: pieces of an export are far smaller than efficient row groups


class ParquetFile:
    """A Parquet file. Raises CommandError where pyarrow is not installed."""

    def __init__(self, path: Path, kind: str) -> None:
        try:
            import pyarrow
            import pyarrow.csv
            import pyarrow.parquet
        except ImportError as error:
            raise CommandError("--parquet needs pyarrow; pip install 'swarmtop[parquet]'") from error
        from swarm_storage.csv_format import column_types

        types = {
            "time": pyarrow.timestamp("us", tz="UTC"), "str": pyarrow.string(), "bool": pyarrow.bool_(),
            "int": pyarrow.int64(), "float": pyarrow.float64(),
        }  # fmt: skip
        self._csv = pyarrow.csv
        self._schema = pyarrow.schema([(name, types[what]) for name, what in column_types(kind).items()])
        self._writer: Any = pyarrow.parquet.ParquetWriter(path, self._schema, compression="zstd")
        self._pieces: list[str] = []
        self._lines = 0
        self._began = False

    def write(self, piece: str) -> int:
        """Write text of an export: whole lines, the first of all is the header."""
        lines = piece.count("\n")
        if not self._began:
            self._began = True
            piece = piece.partition("\n")[2]
            lines -= 1
        self._pieces.append(piece)
        self._lines += lines
        if self._lines >= _ROWS:
            self._row_group()
        return len(piece)

    def close(self) -> None:
        self._row_group()
        self._writer.close()

    def _row_group(self) -> None:
        text, self._pieces, self._lines = "".join(self._pieces), [], 0
        if not text:
            return
        self._writer.write_table(
            self._csv.read_csv(
                io.BytesIO(text.encode()),
                read_options=self._csv.ReadOptions(column_names=self._schema.names, block_size=len(text) + 1024),
                parse_options=self._csv.ParseOptions(newlines_in_values=True),
                convert_options=self._csv.ConvertOptions(
                    column_types=self._schema, strings_can_be_null=False, true_values=["true"], false_values=["false"],
                    timestamp_parsers=["%Y-%m-%dT%H:%M:%S.%fZ", self._csv.ISO8601],
                ),
            ).cast(self._schema)
        )  # fmt: skip
