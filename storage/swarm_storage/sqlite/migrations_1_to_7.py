"""Define the tables and views of schema versions 1 to 7, and the steps between them, which are never edited."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sqlite_utils import Database

APPLICATION_ID: Final = 0x5357544D  # "SWTM", in the header of every file of ours


_GIB: Final = "/ 1073741824.0"
_PAIR: Final = "src_node.name AS src, dst_node.name AS dst"
_FROM_PAIR: Final = (
    "FROM {0}_sample s JOIN node src_node ON src_node.id = s.src JOIN node dst_node ON dst_node.id = s.dst"
)
_FROM_NODE: Final = "FROM {0}_sample s LEFT JOIN node ON node.id = s.node"


def iso(column: str) -> str:
    return (
        f"strftime('%Y-%m-%dT%H:%M:%S', {column} / 1000000000, 'unixepoch')"
        f" || printf('.%06dZ', {column} / 1000 % 1000000)"
    )


_VIEWS_1: Final = {
    "link": f"{_PAIR}, path, sent, lost, rtt_min_ms, rtt_p50_ms, rtt_p95_ms, rtt_p99_ms, pdv_ms, jitter_rfc3550_ms,"
    " hop_ms, loaded, timestamps " + _FROM_PAIR,
    "hop": f"{_PAIR}, size_bytes AS bytes, cadence_ms, n, first_ms, min_ms, p50_ms, p95_ms, p99_ms, loaded "
    + _FROM_PAIR,
    "uplink": f"{_PAIR}, sent_bytes AS bytes, mbps, bound, rtt_idle_ms, rtt_loaded_ms, seconds " + _FROM_PAIR,
    "compute": "node.name AS node, device, model, dtype, phase, batch, context, ms_per_layer, ms_p95, verified "
    + _FROM_NODE,
    "roofline": "node.name AS node, device, dtype, mem_gbps, tflops " + _FROM_NODE,
    "host": f"node.name AS node, cpu_percent, ram_free_bytes {_GIB} AS ram_free_gib, gpu, gpu_util_percent,"
    f" vram_free_bytes {_GIB} AS vram_free_gib, temp_c, power_w, throttled " + _FROM_NODE,
    "event": "coalesce(node.name, '') AS node, kind, detail " + _FROM_NODE,
}


def _script(name: str) -> str:
    return importlib.resources.files(__package__).joinpath("versions", name).read_text("utf-8")


def _version_1(db: Database) -> None:
    db.conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.executescript(_script("version_1.sql"))  # inside the migration's transaction: sqlite-utils does not commit it
    for name, body in _VIEWS_1.items():
        db.create_view(name, f"SELECT {iso('s.ts')} AS time, " + body.format(name))
    db.create_view(
        "member",
        f"SELECT name, node_id, host, {iso('first_ns')} AS first_seen, {iso('seen_ns')} AS last_seen, facts"
        " FROM node WHERE member",
    )


_VIEWS_2: Final = {
    "link": _VIEWS_1["link"].replace(" timestamps ", " timestamps, ipdv_ms, duplicates, reordered, ttl_out, ttl_back "),
    "hop": _VIEWS_1["hop"].replace(" first_ms,", " phase, first_ms, after_idle_ms,"),
}


def _version_2(db: Database) -> None:
    """Add further figures of round trips, and hops of prefill chunks and after a pause."""
    link = ("ipdv_ms REAL", "duplicates INTEGER NOT NULL DEFAULT 0", "reordered INTEGER NOT NULL DEFAULT 0",
            "ttl_out INTEGER", "ttl_back INTEGER")  # fmt: skip
    hop = ("phase TEXT NOT NULL DEFAULT 'decode'", "after_idle_ms REAL")
    for table, columns in (("link_sample", link), ("hop_sample", hop)):
        for column in columns:
            db.conn.execute(f"ALTER TABLE {table} ADD COLUMN {column}")
    for name, body in _VIEWS_2.items():
        db.conn.execute(f"DROP VIEW {name}")
        db.create_view(name, f"SELECT {iso('s.ts')} AS time, " + body.format(name))


_LINK_KEY_3: Final = "src INTEGER NOT NULL REFERENCES node(id), dst INTEGER NOT NULL REFERENCES node(id)"
# kind: (whose, sums, least, figures), as they stood when version 3 was made
_ROLLUPS_3: Final = {
    "link": (_LINK_KEY_3, ("sent", "lost"), ("rtt_min_ms",), ("rtt_p50_ms", "rtt_p95_ms", "rtt_p99_ms", "pdv_ms")),
    "hop": (_LINK_KEY_3, (), ("min_ms",), ("p50_ms",)),
    "uplink": (_LINK_KEY_3, ("sent_bytes",), (), ("mbps",)),
    "host": (
        "node INTEGER NOT NULL REFERENCES node(id)", (), (),
        ("cpu_percent", "gpu_util_percent", "vram_free_bytes", "temp_c"),
    ),
}  # fmt: skip


def _version_3(db: Database) -> None:
    """Add rollups, and where the newest sample of each link is. Existing samples are rolled up gradually afterwards."""
    db.executescript(_script("version_3.sql"))
    for kind, (whose, sums, least, figures) in _ROLLUPS_3.items():
        of_link = whose is _LINK_KEY_3
        shown = [
            f"{name} {_GIB} AS vram_free_gib" if name == "vram_free_bytes" else name
            for name in (*sums, *least, *figures)
        ]
        cells = ", ".join(
            ("n INTEGER NOT NULL", *(f"{name} INTEGER NOT NULL" for name in sums), *(f"{name} REAL" for name in least),
             *(f"{name} REAL, {name}_sketch BLOB" for name in figures))
        )  # fmt: skip
        for unit in ("minute", "hour"):
            table = f"{kind}_{unit}_rollup"
            db.conn.execute(
                f"CREATE TABLE {table} (piece INTEGER NOT NULL, {whose}, t INTEGER NOT NULL, {cells},"
                f" PRIMARY KEY (piece, {'src, dst' if of_link else 'node'}, t)) WITHOUT ROWID"
            )
            names = _PAIR if of_link else "node.name AS node"
            origin = (_FROM_PAIR if of_link else _FROM_NODE).format(kind).replace(f"{kind}_sample", table)
            db.create_view(f"{kind}_{unit}", f"SELECT {iso('s.t')} AS time, {names}, n, {', '.join(shown)} {origin}")
    for kind in ("link", "hop", "uplink"):
        create_latest(db, kind, {**_VIEWS_1, **_VIEWS_2}[kind])


def create_latest(db: Database, kind: str, view: str) -> None:
    """Create the view of the newest sample of each link, with the columns of `view`."""
    body = view.replace(_FROM_PAIR, "").format(kind)
    db.create_view(
        f"{kind}_latest",
        f"SELECT {iso('s.ts')} AS time, {body} FROM (SELECT src, dst, coalesce((SELECT max(p.ts) FROM pending"
        f" CROSS JOIN {kind}_sample p ON p.bucket = number AND p.src = newest.src AND p.dst = newest.dst"
        f" WHERE unit = 'bucket'), ts) AS at FROM newest WHERE kind = '{kind}') n CROSS JOIN {kind}_sample s"
        " ON s.bucket = n.at / 300000000000 AND s.src = n.src AND s.dst = n.dst AND s.ts = n.at"
        " JOIN node src_node ON src_node.id = s.src JOIN node dst_node ON dst_node.id = s.dst",
    )


VIEWS_4: Final = {
    "compute": _VIEWS_1["compute"].replace("verified ", "verified, ms_p5, n, marks "),
    "roofline": _VIEWS_1["roofline"].replace("tflops ", "tflops, to_device_gbps, from_device_gbps, disk_gbps "),
    "host": _VIEWS_1["host"].replace("throttled ", "throttled, clock_mhz, throttle, others, on_battery "),
}


def _version_4(db: Database) -> None:
    """Add the certainty of a layer time and what disturbed it; offload rates; clocks and other processes."""
    new = {
        "compute": ("ms_p5 REAL", "marks TEXT NOT NULL DEFAULT ''"),
        "roofline": ("to_device_gbps REAL", "from_device_gbps REAL", "disk_gbps REAL"),
        "host": ("clock_mhz REAL", "throttle TEXT", "others INTEGER", "on_battery INTEGER"),
    }
    for kind, columns in new.items():
        for column in columns:
            db.conn.execute(f"ALTER TABLE {kind}_sample ADD COLUMN {column}")
        db.conn.execute(f"DROP VIEW {kind}")
        db.create_view(kind, f"SELECT {iso('s.ts')} AS time, " + VIEWS_4[kind].format(kind))


def _version_5(db: Database) -> None:
    """Add the runs of watched engines."""
    db.executescript(_script("version_5.sql"))
    db.create_view(
        "run",
        f"SELECT {iso('s.ts')} AS time, endpoint, model, label, baseline, placement, prompt_tokens, tokens, counted,"
        " ttft_ms, tpot_ms, tpot_p50_ms, tpot_p95_ms, 1000.0 / tpot_ms AS tokens_per_s, predicted_p5, predicted_p50,"
        " predicted_p95 FROM run_sample s",
    )


VIEWS_6: Final = {
    "link": _VIEWS_2["link"].replace(" ttl_back ", " ttl_back, why "),
    "hop": _VIEWS_2["hop"].replace(" loaded ", " loaded, transport "),
    "uplink": _VIEWS_1["uplink"].replace(" seconds ", " seconds, transport "),
    "host": VIEWS_4["host"].replace(" on_battery ", " on_battery, nat, collector_rtt_ms "),
}


def _version_6(db: Database) -> None:
    """Add NATs: each node's kind, why a link has no path, and what was measured over a punched one."""
    for column in (
        "link_sample ADD COLUMN why TEXT",
        "hop_sample ADD COLUMN transport TEXT NOT NULL DEFAULT 'tcp'",
        "uplink_sample ADD COLUMN transport TEXT NOT NULL DEFAULT 'tcp'",
        "host_sample ADD COLUMN nat TEXT",
        "host_sample ADD COLUMN collector_rtt_ms REAL",
    ):
        db.conn.execute(f"ALTER TABLE {column}")
    for name, body in VIEWS_6.items():
        db.conn.execute(f"DROP VIEW {name}")
        db.create_view(name, f"SELECT {iso('s.ts')} AS time, " + body.format(name))
        if name != "host":
            db.conn.execute(f"DROP VIEW {name}_latest")
            create_latest(db, name, body)


def _version_7(db: Database) -> None:
    """Add members that were present, and hosts without a CPU figure. SQLite drops a NOT NULL only by a new table."""
    db.conn.execute("ALTER TABLE node ADD COLUMN presence TEXT")  # of the collector; NULL: it left, or is of before
    columns = ", ".join(row[1] for row in db.conn.execute("PRAGMA table_info(host_sample)").fetchall())
    db.conn.execute("DROP VIEW host")  # a table that a view reads cannot be renamed away from under it
    db.executescript(_script("version_7.sql"))
    db.conn.execute(f"INSERT INTO host_sample_7 ({columns}) SELECT {columns} FROM host_sample")
    db.conn.execute("DROP TABLE host_sample")
    db.conn.execute("ALTER TABLE host_sample_7 RENAME TO host_sample")
    db.conn.execute("CREATE INDEX host_by_node ON host_sample (node, ts)")
    db.create_view("host", f"SELECT {iso('s.ts')} AS time, " + VIEWS_6["host"].format("host"))


# step i leads to version i + 1
FIRST_STEPS: Final[tuple[Callable[[Database], None], ...]] = (
    _version_1, _version_2, _version_3, _version_4, _version_5, _version_6, _version_7,
)  # fmt: skip
