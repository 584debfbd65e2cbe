PRAGMA user_version = 2;
PRAGMA application_id = 1398232141;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
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
  timestamps TEXT NOT NULL, ipdv_ms REAL, duplicates INTEGER NOT NULL DEFAULT 0, reordered INTEGER NOT NULL DEFAULT 0, ttl_out INTEGER, ttl_back INTEGER,
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
  loaded INTEGER NOT NULL, phase TEXT NOT NULL DEFAULT 'decode', after_idle_ms REAL,
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
CREATE VIEW "uplink" AS SELECT strftime('%Y-%m-%dT%H:%M:%S', s.ts / 1000000000, 'unixepoch') || printf('.%06dZ', s.ts / 1000 % 1000000) AS time, src_node.name AS src, dst_node.name AS dst, sent_bytes AS bytes, mbps, bound, rtt_idle_ms, rtt_loaded_ms, seconds FROM uplink_sample s JOIN node src_node ON src_node.id = s.src JOIN node dst_node ON dst_node.id = s.dst;
CREATE VIEW "compute" AS SELECT strftime('%Y-%m-%dT%H:%M:%S', s.ts / 1000000000, 'unixepoch') || printf('.%06dZ', s.ts / 1000 % 1000000) AS time, node.name AS node, device, model, dtype, phase, batch, context, ms_per_layer, ms_p95, verified FROM compute_sample s LEFT JOIN node ON node.id = s.node;
CREATE VIEW "roofline" AS SELECT strftime('%Y-%m-%dT%H:%M:%S', s.ts / 1000000000, 'unixepoch') || printf('.%06dZ', s.ts / 1000 % 1000000) AS time, node.name AS node, device, dtype, mem_gbps, tflops FROM roofline_sample s LEFT JOIN node ON node.id = s.node;
CREATE VIEW "host" AS SELECT strftime('%Y-%m-%dT%H:%M:%S', s.ts / 1000000000, 'unixepoch') || printf('.%06dZ', s.ts / 1000 % 1000000) AS time, node.name AS node, cpu_percent, ram_free_bytes / 1073741824.0 AS ram_free_gib, gpu, gpu_util_percent, vram_free_bytes / 1073741824.0 AS vram_free_gib, temp_c, power_w, throttled FROM host_sample s LEFT JOIN node ON node.id = s.node;
CREATE VIEW "event" AS SELECT strftime('%Y-%m-%dT%H:%M:%S', s.ts / 1000000000, 'unixepoch') || printf('.%06dZ', s.ts / 1000 % 1000000) AS time, coalesce(node.name, '') AS node, kind, detail FROM event_sample s LEFT JOIN node ON node.id = s.node;
CREATE VIEW "member" AS SELECT name, node_id, host, strftime('%Y-%m-%dT%H:%M:%S', first_ns / 1000000000, 'unixepoch') || printf('.%06dZ', first_ns / 1000 % 1000000) AS first_seen, strftime('%Y-%m-%dT%H:%M:%S', seen_ns / 1000000000, 'unixepoch') || printf('.%06dZ', seen_ns / 1000 % 1000000) AS last_seen, facts FROM node WHERE member;
CREATE VIEW "link" AS SELECT strftime('%Y-%m-%dT%H:%M:%S', s.ts / 1000000000, 'unixepoch') || printf('.%06dZ', s.ts / 1000 % 1000000) AS time, src_node.name AS src, dst_node.name AS dst, path, sent, lost, rtt_min_ms, rtt_p50_ms, rtt_p95_ms, rtt_p99_ms, pdv_ms, jitter_rfc3550_ms, hop_ms, loaded, timestamps, ipdv_ms, duplicates, reordered, ttl_out, ttl_back FROM link_sample s JOIN node src_node ON src_node.id = s.src JOIN node dst_node ON dst_node.id = s.dst;
CREATE VIEW "hop" AS SELECT strftime('%Y-%m-%dT%H:%M:%S', s.ts / 1000000000, 'unixepoch') || printf('.%06dZ', s.ts / 1000 % 1000000) AS time, src_node.name AS src, dst_node.name AS dst, size_bytes AS bytes, cadence_ms, n, phase, first_ms, after_idle_ms, min_ms, p50_ms, p95_ms, p99_ms, loaded FROM hop_sample s JOIN node src_node ON src_node.id = s.src JOIN node dst_node ON dst_node.id = s.dst;
INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('swarmtop', 'version 1');
INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('swarmtop', 'version 2');
