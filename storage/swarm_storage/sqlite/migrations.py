"""The tables and views of each schema version, and the step from each version to the next. Steps are never edited."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sqlite_utils import Database

APPLICATION_ID: Final = 0x5357544D  # "SWTM", in the header of every file of ours

_TABLES_1: Final = """
CREATE TABLE node (
  id INTEGER PRIMARY KEY,
  node_id TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  host TEXT NOT NULL DEFAULT '',
  facts TEXT,
  member INTEGER NOT NULL,
  first_ns INTEGER NOT NULL,
  seen_ns INTEGER NOT NULL
);
CREATE TABLE cursor (
  node INTEGER NOT NULL REFERENCES node(id),
  epoch INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  received_ns INTEGER NOT NULL,
  PRIMARY KEY (node, epoch)
) WITHOUT ROWID;
CREATE TABLE setting (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE activity (minute INTEGER PRIMARY KEY, samples INTEGER NOT NULL);
CREATE TABLE link_sample (
  bucket INTEGER NOT NULL,
  src INTEGER NOT NULL REFERENCES node(id),
  dst INTEGER NOT NULL REFERENCES node(id),
  ts INTEGER NOT NULL,
  path TEXT NOT NULL,
  sent INTEGER NOT NULL,
  lost INTEGER NOT NULL,
  lost_out INTEGER,
  lost_back INTEGER,
  rtt_min_ms REAL,
  rtt_p50_ms REAL,
  rtt_p95_ms REAL,
  rtt_p99_ms REAL,
  pdv_ms REAL,
  jitter_rfc3550_ms REAL,
  hop_ms REAL,
  loaded INTEGER NOT NULL,
  timestamps TEXT NOT NULL,
  PRIMARY KEY (bucket, src, dst, ts)
) WITHOUT ROWID;
CREATE TABLE hop_sample (
  bucket INTEGER NOT NULL,
  src INTEGER NOT NULL REFERENCES node(id),
  dst INTEGER NOT NULL REFERENCES node(id),
  ts INTEGER NOT NULL,
  size_bytes INTEGER NOT NULL,
  cadence_ms REAL NOT NULL,
  n INTEGER NOT NULL,
  first_ms REAL,
  min_ms REAL NOT NULL,
  p50_ms REAL NOT NULL,
  p95_ms REAL NOT NULL,
  p99_ms REAL NOT NULL,
  loaded INTEGER NOT NULL,
  PRIMARY KEY (bucket, src, dst, ts)
) WITHOUT ROWID;
CREATE TABLE uplink_sample (
  bucket INTEGER NOT NULL,
  src INTEGER NOT NULL REFERENCES node(id),
  dst INTEGER NOT NULL REFERENCES node(id),
  ts INTEGER NOT NULL,
  sent_bytes INTEGER NOT NULL,
  mbps REAL NOT NULL,
  bound INTEGER NOT NULL,
  rtt_idle_ms REAL,
  rtt_loaded_ms REAL,
  seconds REAL NOT NULL,
  PRIMARY KEY (bucket, src, dst, ts)
) WITHOUT ROWID;
CREATE TABLE compute_sample (
  node INTEGER NOT NULL REFERENCES node(id),
  device TEXT NOT NULL,
  model TEXT NOT NULL,
  dtype TEXT NOT NULL,
  phase TEXT NOT NULL,
  batch INTEGER NOT NULL,
  context INTEGER NOT NULL,
  ts INTEGER NOT NULL,
  ms_per_layer REAL NOT NULL,
  ms_p95 REAL NOT NULL,
  n INTEGER NOT NULL,
  verified INTEGER NOT NULL,
  PRIMARY KEY (node, model, dtype, phase, batch, context, ts, device)
) WITHOUT ROWID;
CREATE INDEX compute_by_time ON compute_sample (ts);
CREATE TABLE roofline_sample (
  node INTEGER NOT NULL REFERENCES node(id),
  device TEXT NOT NULL,
  dtype TEXT NOT NULL,
  ts INTEGER NOT NULL,
  mem_gbps REAL NOT NULL,
  tflops REAL NOT NULL,
  PRIMARY KEY (node, device, dtype, ts)
) WITHOUT ROWID;
CREATE INDEX roofline_by_time ON roofline_sample (ts);
CREATE TABLE host_sample (
  bucket INTEGER NOT NULL,
  node INTEGER NOT NULL REFERENCES node(id),
  ts INTEGER NOT NULL,
  part INTEGER NOT NULL,
  cpu_percent REAL NOT NULL,
  ram_free_bytes INTEGER NOT NULL,
  ram_total_bytes INTEGER NOT NULL,
  gpu TEXT,
  gpu_util_percent REAL,
  vram_free_bytes INTEGER,
  vram_total_bytes INTEGER,
  temp_c REAL,
  power_w REAL,
  throttled INTEGER,
  PRIMARY KEY (bucket, node, ts, part)
) WITHOUT ROWID;
CREATE INDEX host_by_node ON host_sample (node, ts);
CREATE TABLE event_sample (
  ts INTEGER NOT NULL,
  node INTEGER NOT NULL,
  part INTEGER NOT NULL,
  kind TEXT NOT NULL,
  detail TEXT NOT NULL,
  PRIMARY KEY (ts, node, part)
) WITHOUT ROWID;
"""

_GIB: Final = "/ 1073741824.0"
_PAIR: Final = "src_node.name AS src, dst_node.name AS dst"
_FROM_PAIR: Final = (
    "FROM {0}_sample s JOIN node src_node ON src_node.id = s.src JOIN node dst_node ON dst_node.id = s.dst"
)
_FROM_NODE: Final = "FROM {0}_sample s LEFT JOIN node ON node.id = s.node"


def _iso(column: str) -> str:
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


def _version_1(db: Database) -> None:
    db.conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.executescript(_TABLES_1)  # inside the migration's transaction: sqlite-utils does not commit it
    for name, body in _VIEWS_1.items():
        db.create_view(name, f"SELECT {_iso('s.ts')} AS time, " + body.format(name))
    db.create_view(
        "member",
        f"SELECT name, node_id, host, {_iso('first_ns')} AS first_seen, {_iso('seen_ns')} AS last_seen, facts"
        " FROM node WHERE member",
    )


_VIEWS_2: Final = {
    "link": _VIEWS_1["link"].replace(" timestamps ", " timestamps, ipdv_ms, duplicates, reordered, ttl_out, ttl_back "),
    "hop": _VIEWS_1["hop"].replace(" first_ms,", " phase, first_ms, after_idle_ms,"),
}


def _version_2(db: Database) -> None:
    """What else a round trip tells, and hops of prefill chunks and after a pause."""
    link = ("ipdv_ms REAL", "duplicates INTEGER NOT NULL DEFAULT 0", "reordered INTEGER NOT NULL DEFAULT 0",
            "ttl_out INTEGER", "ttl_back INTEGER")  # fmt: skip
    hop = ("phase TEXT NOT NULL DEFAULT 'decode'", "after_idle_ms REAL")
    for table, columns in (("link_sample", link), ("hop_sample", hop)):
        for column in columns:
            db.conn.execute(f"ALTER TABLE {table} ADD COLUMN {column}")
    for name, body in _VIEWS_2.items():
        db.conn.execute(f"DROP VIEW {name}")
        db.create_view(name, f"SELECT {_iso('s.ts')} AS time, " + body.format(name))


_PENDING_3: Final = """
CREATE TABLE pending (
  unit TEXT NOT NULL,
  number INTEGER NOT NULL,
  kind INTEGER NOT NULL,
  node INTEGER NOT NULL,
  PRIMARY KEY (unit, number)
) WITHOUT ROWID;
CREATE TABLE newest (
  kind TEXT NOT NULL,
  src INTEGER NOT NULL REFERENCES node(id),
  dst INTEGER NOT NULL REFERENCES node(id),
  first_ts INTEGER NOT NULL,
  ts INTEGER NOT NULL,
  PRIMARY KEY (kind, src, dst)
) WITHOUT ROWID;
INSERT INTO pending (unit, number, kind, node) SELECT DISTINCT 'bucket', minute / 5, 0, 0 FROM activity;
"""
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
    """Rollups, and where the newest sample of each link is. What is in the file is rolled up bit by bit afterwards."""
    db.executescript(_PENDING_3)
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
            db.create_view(f"{kind}_{unit}", f"SELECT {_iso('s.t')} AS time, {names}, n, {', '.join(shown)} {origin}")
    for kind in ("link", "hop", "uplink"):
        _create_latest(db, kind, {**_VIEWS_1, **_VIEWS_2}[kind])


def _create_latest(db: Database, kind: str, view: str) -> None:
    """The view of the newest sample of each link, with the columns of `view`."""
    body = view.replace(_FROM_PAIR, "").format(kind)
    db.create_view(
        f"{kind}_latest",
        f"SELECT {_iso('s.ts')} AS time, {body} FROM (SELECT src, dst, coalesce((SELECT max(p.ts) FROM pending"
        f" CROSS JOIN {kind}_sample p ON p.bucket = number AND p.src = newest.src AND p.dst = newest.dst"
        f" WHERE unit = 'bucket'), ts) AS at FROM newest WHERE kind = '{kind}') n CROSS JOIN {kind}_sample s"
        " ON s.bucket = n.at / 300000000000 AND s.src = n.src AND s.dst = n.dst AND s.ts = n.at"
        " JOIN node src_node ON src_node.id = s.src JOIN node dst_node ON dst_node.id = s.dst",
    )


_VIEWS_4: Final = {
    "compute": _VIEWS_1["compute"].replace("verified ", "verified, ms_p5, n, marks "),
    "roofline": _VIEWS_1["roofline"].replace("tflops ", "tflops, to_device_gbps, from_device_gbps, disk_gbps "),
    "host": _VIEWS_1["host"].replace("throttled ", "throttled, clock_mhz, throttle, others, on_battery "),
}


def _version_4(db: Database) -> None:
    """How sure a layer time is and what disturbed it; how fast weights come from elsewhere; clocks and company."""
    new = {
        "compute": ("ms_p5 REAL", "marks TEXT NOT NULL DEFAULT ''"),
        "roofline": ("to_device_gbps REAL", "from_device_gbps REAL", "disk_gbps REAL"),
        "host": ("clock_mhz REAL", "throttle TEXT", "others INTEGER", "on_battery INTEGER"),
    }
    for kind, columns in new.items():
        for column in columns:
            db.conn.execute(f"ALTER TABLE {kind}_sample ADD COLUMN {column}")
        db.conn.execute(f"DROP VIEW {kind}")
        db.create_view(kind, f"SELECT {_iso('s.ts')} AS time, " + _VIEWS_4[kind].format(kind))


_TABLE_5: Final = """
CREATE TABLE run_sample (
  ts INTEGER NOT NULL,
  node INTEGER NOT NULL,
  part INTEGER NOT NULL,
  endpoint TEXT NOT NULL,
  model TEXT NOT NULL,
  label TEXT NOT NULL,
  baseline INTEGER NOT NULL,
  placement TEXT NOT NULL,
  prompt_tokens INTEGER,
  tokens INTEGER NOT NULL,
  counted INTEGER NOT NULL,
  ttft_ms REAL NOT NULL,
  tpot_ms REAL,
  tpot_p50_ms REAL,
  tpot_p95_ms REAL,
  predicted_p5 REAL,
  predicted_p50 REAL,
  predicted_p95 REAL,
  PRIMARY KEY (ts, node, part)
) WITHOUT ROWID;
"""


def _version_5(db: Database) -> None:
    """What watched engines took."""
    db.executescript(_TABLE_5)
    db.create_view(
        "run",
        f"SELECT {_iso('s.ts')} AS time, endpoint, model, label, baseline, placement, prompt_tokens, tokens, counted,"
        " ttft_ms, tpot_ms, tpot_p50_ms, tpot_p95_ms, 1000.0 / tpot_ms AS tokens_per_s, predicted_p5, predicted_p50,"
        " predicted_p95 FROM run_sample s",
    )


_VIEWS_6: Final = {
    "link": _VIEWS_2["link"].replace(" ttl_back ", " ttl_back, why "),
    "hop": _VIEWS_2["hop"].replace(" loaded ", " loaded, transport "),
    "uplink": _VIEWS_1["uplink"].replace(" seconds ", " seconds, transport "),
    "host": _VIEWS_4["host"].replace(" on_battery ", " on_battery, nat, collector_rtt_ms "),
}


def _version_6(db: Database) -> None:
    """NATs: what kind each node is behind, why a link has no path, and what was measured over a punched one."""
    for column in (
        "link_sample ADD COLUMN why TEXT",
        "hop_sample ADD COLUMN transport TEXT NOT NULL DEFAULT 'tcp'",
        "uplink_sample ADD COLUMN transport TEXT NOT NULL DEFAULT 'tcp'",
        "host_sample ADD COLUMN nat TEXT",
        "host_sample ADD COLUMN collector_rtt_ms REAL",
    ):
        db.conn.execute(f"ALTER TABLE {column}")
    for name, body in _VIEWS_6.items():
        db.conn.execute(f"DROP VIEW {name}")
        db.create_view(name, f"SELECT {_iso('s.ts')} AS time, " + body.format(name))
        if name != "host":
            db.conn.execute(f"DROP VIEW {name}_latest")
            _create_latest(db, name, body)


_TABLE_7: Final = """
CREATE TABLE host_sample_7 (
  bucket INTEGER NOT NULL,
  node INTEGER NOT NULL REFERENCES node(id),
  ts INTEGER NOT NULL,
  part INTEGER NOT NULL,
  cpu_percent REAL,
  ram_free_bytes INTEGER,
  ram_total_bytes INTEGER,
  gpu TEXT,
  gpu_util_percent REAL,
  vram_free_bytes INTEGER,
  vram_total_bytes INTEGER,
  temp_c REAL,
  power_w REAL,
  throttled INTEGER,
  clock_mhz REAL,
  throttle TEXT,
  others INTEGER,
  on_battery INTEGER,
  nat TEXT,
  collector_rtt_ms REAL,
  PRIMARY KEY (bucket, node, ts, part)
) WITHOUT ROWID;
"""


def _version_7(db: Database) -> None:
    """Members that were present, and machines that do not say how their processor does. SQLite takes back a NOT NULL
    by a new table only."""
    db.conn.execute("ALTER TABLE node ADD COLUMN presence TEXT")  # of the collector; NULL: it left, or is of before
    columns = ", ".join(row[1] for row in db.conn.execute("PRAGMA table_info(host_sample)").fetchall())
    db.conn.execute("DROP VIEW host")  # a table that a view reads cannot be renamed away from under it
    db.executescript(_TABLE_7)
    db.conn.execute(f"INSERT INTO host_sample_7 ({columns}) SELECT {columns} FROM host_sample")
    db.conn.execute("DROP TABLE host_sample")
    db.conn.execute("ALTER TABLE host_sample_7 RENAME TO host_sample")
    db.conn.execute("CREATE INDEX host_by_node ON host_sample (node, ts)")
    db.create_view("host", f"SELECT {_iso('s.ts')} AS time, " + _VIEWS_6["host"].format("host"))


# step i leads to version i + 1
STEPS: Final[tuple[Callable[[Database], None], ...]] = (
    _version_1, _version_2, _version_3, _version_4, _version_5, _version_6, _version_7,
)  # fmt: skip
