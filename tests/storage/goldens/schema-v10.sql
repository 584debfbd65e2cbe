PRAGMA user_version = 10;
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
, presence TEXT);
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
  timestamps TEXT NOT NULL, ipdv_ms REAL, duplicates INTEGER NOT NULL DEFAULT 0, reordered INTEGER NOT NULL DEFAULT 0, ttl_out INTEGER, ttl_back INTEGER, why TEXT, stamped_out_ms REAL, stamped_back_ms REAL, address TEXT, interface TEXT,
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
  loaded INTEGER NOT NULL, phase TEXT NOT NULL DEFAULT 'decode', after_idle_ms REAL, transport TEXT NOT NULL DEFAULT 'tcp',
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
  seconds REAL NOT NULL, transport TEXT NOT NULL DEFAULT 'tcp',
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
  verified INTEGER NOT NULL, ms_p5 REAL, marks TEXT NOT NULL DEFAULT '', stage_layers INTEGER,
  PRIMARY KEY (node, model, dtype, phase, batch, context, ts, device)
) WITHOUT ROWID;
CREATE INDEX compute_by_time ON compute_sample (ts);
CREATE TABLE roofline_sample (
  node INTEGER NOT NULL REFERENCES node(id),
  device TEXT NOT NULL,
  dtype TEXT NOT NULL,
  ts INTEGER NOT NULL,
  mem_gbps REAL NOT NULL,
  tflops REAL NOT NULL, to_device_gbps REAL, from_device_gbps REAL, disk_gbps REAL,
  PRIMARY KEY (node, device, dtype, ts)
) WITHOUT ROWID;
CREATE INDEX roofline_by_time ON roofline_sample (ts);
CREATE TABLE event_sample (
  ts INTEGER NOT NULL,
  node INTEGER NOT NULL,
  part INTEGER NOT NULL,
  kind TEXT NOT NULL,
  detail TEXT NOT NULL,
  PRIMARY KEY (ts, node, part)
) WITHOUT ROWID;
CREATE VIEW "event" AS SELECT strftime('%Y-%m-%dT%H:%M:%S', s.ts / 1000000000, 'unixepoch') || printf('.%06dZ', s.ts / 1000 % 1000000) AS time, coalesce(node.name, '') AS node, kind, detail FROM event_sample s LEFT JOIN node ON node.id = s.node;
CREATE VIEW "member" AS SELECT name, node_id, host, strftime('%Y-%m-%dT%H:%M:%S', first_ns / 1000000000, 'unixepoch') || printf('.%06dZ', first_ns / 1000 % 1000000) AS first_seen, strftime('%Y-%m-%dT%H:%M:%S', seen_ns / 1000000000, 'unixepoch') || printf('.%06dZ', seen_ns / 1000 % 1000000) AS last_seen, facts FROM node WHERE member;
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
CREATE TABLE link_minute_rollup (piece INTEGER NOT NULL, src INTEGER NOT NULL REFERENCES node(id), dst INTEGER NOT NULL REFERENCES node(id), t INTEGER NOT NULL, n INTEGER NOT NULL, sent INTEGER NOT NULL, lost INTEGER NOT NULL, rtt_min_ms REAL, rtt_p50_ms REAL, rtt_p50_ms_sketch BLOB, rtt_p95_ms REAL, rtt_p95_ms_sketch BLOB, rtt_p99_ms REAL, rtt_p99_ms_sketch BLOB, pdv_ms REAL, pdv_ms_sketch BLOB, PRIMARY KEY (piece, src, dst, t)) WITHOUT ROWID;
CREATE VIEW "link_minute" AS SELECT strftime('%Y-%m-%dT%H:%M:%S', s.t / 1000000000, 'unixepoch') || printf('.%06dZ', s.t / 1000 % 1000000) AS time, src_node.name AS src, dst_node.name AS dst, n, sent, lost, rtt_min_ms, rtt_p50_ms, rtt_p95_ms, rtt_p99_ms, pdv_ms FROM link_minute_rollup s JOIN node src_node ON src_node.id = s.src JOIN node dst_node ON dst_node.id = s.dst;
CREATE TABLE link_hour_rollup (piece INTEGER NOT NULL, src INTEGER NOT NULL REFERENCES node(id), dst INTEGER NOT NULL REFERENCES node(id), t INTEGER NOT NULL, n INTEGER NOT NULL, sent INTEGER NOT NULL, lost INTEGER NOT NULL, rtt_min_ms REAL, rtt_p50_ms REAL, rtt_p50_ms_sketch BLOB, rtt_p95_ms REAL, rtt_p95_ms_sketch BLOB, rtt_p99_ms REAL, rtt_p99_ms_sketch BLOB, pdv_ms REAL, pdv_ms_sketch BLOB, PRIMARY KEY (piece, src, dst, t)) WITHOUT ROWID;
CREATE VIEW "link_hour" AS SELECT strftime('%Y-%m-%dT%H:%M:%S', s.t / 1000000000, 'unixepoch') || printf('.%06dZ', s.t / 1000 % 1000000) AS time, src_node.name AS src, dst_node.name AS dst, n, sent, lost, rtt_min_ms, rtt_p50_ms, rtt_p95_ms, rtt_p99_ms, pdv_ms FROM link_hour_rollup s JOIN node src_node ON src_node.id = s.src JOIN node dst_node ON dst_node.id = s.dst;
CREATE TABLE hop_minute_rollup (piece INTEGER NOT NULL, src INTEGER NOT NULL REFERENCES node(id), dst INTEGER NOT NULL REFERENCES node(id), t INTEGER NOT NULL, n INTEGER NOT NULL, min_ms REAL, p50_ms REAL, p50_ms_sketch BLOB, PRIMARY KEY (piece, src, dst, t)) WITHOUT ROWID;
CREATE VIEW "hop_minute" AS SELECT strftime('%Y-%m-%dT%H:%M:%S', s.t / 1000000000, 'unixepoch') || printf('.%06dZ', s.t / 1000 % 1000000) AS time, src_node.name AS src, dst_node.name AS dst, n, min_ms, p50_ms FROM hop_minute_rollup s JOIN node src_node ON src_node.id = s.src JOIN node dst_node ON dst_node.id = s.dst;
CREATE TABLE hop_hour_rollup (piece INTEGER NOT NULL, src INTEGER NOT NULL REFERENCES node(id), dst INTEGER NOT NULL REFERENCES node(id), t INTEGER NOT NULL, n INTEGER NOT NULL, min_ms REAL, p50_ms REAL, p50_ms_sketch BLOB, PRIMARY KEY (piece, src, dst, t)) WITHOUT ROWID;
CREATE VIEW "hop_hour" AS SELECT strftime('%Y-%m-%dT%H:%M:%S', s.t / 1000000000, 'unixepoch') || printf('.%06dZ', s.t / 1000 % 1000000) AS time, src_node.name AS src, dst_node.name AS dst, n, min_ms, p50_ms FROM hop_hour_rollup s JOIN node src_node ON src_node.id = s.src JOIN node dst_node ON dst_node.id = s.dst;
CREATE TABLE uplink_minute_rollup (piece INTEGER NOT NULL, src INTEGER NOT NULL REFERENCES node(id), dst INTEGER NOT NULL REFERENCES node(id), t INTEGER NOT NULL, n INTEGER NOT NULL, sent_bytes INTEGER NOT NULL, mbps REAL, mbps_sketch BLOB, PRIMARY KEY (piece, src, dst, t)) WITHOUT ROWID;
CREATE VIEW "uplink_minute" AS SELECT strftime('%Y-%m-%dT%H:%M:%S', s.t / 1000000000, 'unixepoch') || printf('.%06dZ', s.t / 1000 % 1000000) AS time, src_node.name AS src, dst_node.name AS dst, n, sent_bytes, mbps FROM uplink_minute_rollup s JOIN node src_node ON src_node.id = s.src JOIN node dst_node ON dst_node.id = s.dst;
CREATE TABLE uplink_hour_rollup (piece INTEGER NOT NULL, src INTEGER NOT NULL REFERENCES node(id), dst INTEGER NOT NULL REFERENCES node(id), t INTEGER NOT NULL, n INTEGER NOT NULL, sent_bytes INTEGER NOT NULL, mbps REAL, mbps_sketch BLOB, PRIMARY KEY (piece, src, dst, t)) WITHOUT ROWID;
CREATE VIEW "uplink_hour" AS SELECT strftime('%Y-%m-%dT%H:%M:%S', s.t / 1000000000, 'unixepoch') || printf('.%06dZ', s.t / 1000 % 1000000) AS time, src_node.name AS src, dst_node.name AS dst, n, sent_bytes, mbps FROM uplink_hour_rollup s JOIN node src_node ON src_node.id = s.src JOIN node dst_node ON dst_node.id = s.dst;
CREATE TABLE host_minute_rollup (piece INTEGER NOT NULL, node INTEGER NOT NULL REFERENCES node(id), t INTEGER NOT NULL, n INTEGER NOT NULL, cpu_percent REAL, cpu_percent_sketch BLOB, gpu_util_percent REAL, gpu_util_percent_sketch BLOB, vram_free_bytes REAL, vram_free_bytes_sketch BLOB, temp_c REAL, temp_c_sketch BLOB, PRIMARY KEY (piece, node, t)) WITHOUT ROWID;
CREATE VIEW "host_minute" AS SELECT strftime('%Y-%m-%dT%H:%M:%S', s.t / 1000000000, 'unixepoch') || printf('.%06dZ', s.t / 1000 % 1000000) AS time, node.name AS node, n, cpu_percent, gpu_util_percent, vram_free_bytes / 1073741824.0 AS vram_free_gib, temp_c FROM host_minute_rollup s LEFT JOIN node ON node.id = s.node;
CREATE TABLE host_hour_rollup (piece INTEGER NOT NULL, node INTEGER NOT NULL REFERENCES node(id), t INTEGER NOT NULL, n INTEGER NOT NULL, cpu_percent REAL, cpu_percent_sketch BLOB, gpu_util_percent REAL, gpu_util_percent_sketch BLOB, vram_free_bytes REAL, vram_free_bytes_sketch BLOB, temp_c REAL, temp_c_sketch BLOB, PRIMARY KEY (piece, node, t)) WITHOUT ROWID;
CREATE VIEW "host_hour" AS SELECT strftime('%Y-%m-%dT%H:%M:%S', s.t / 1000000000, 'unixepoch') || printf('.%06dZ', s.t / 1000 % 1000000) AS time, node.name AS node, n, cpu_percent, gpu_util_percent, vram_free_bytes / 1073741824.0 AS vram_free_gib, temp_c FROM host_hour_rollup s LEFT JOIN node ON node.id = s.node;
CREATE VIEW "roofline" AS SELECT strftime('%Y-%m-%dT%H:%M:%S', s.ts / 1000000000, 'unixepoch') || printf('.%06dZ', s.ts / 1000 % 1000000) AS time, node.name AS node, device, dtype, mem_gbps, tflops, to_device_gbps, from_device_gbps, disk_gbps FROM roofline_sample s LEFT JOIN node ON node.id = s.node;
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
CREATE VIEW "run" AS SELECT strftime('%Y-%m-%dT%H:%M:%S', s.ts / 1000000000, 'unixepoch') || printf('.%06dZ', s.ts / 1000 % 1000000) AS time, endpoint, model, label, baseline, placement, prompt_tokens, tokens, counted, ttft_ms, tpot_ms, tpot_p50_ms, tpot_p95_ms, 1000.0 / tpot_ms AS tokens_per_s, predicted_p5, predicted_p50, predicted_p95 FROM run_sample s;
CREATE VIEW "hop" AS SELECT strftime('%Y-%m-%dT%H:%M:%S', s.ts / 1000000000, 'unixepoch') || printf('.%06dZ', s.ts / 1000 % 1000000) AS time, src_node.name AS src, dst_node.name AS dst, size_bytes AS bytes, cadence_ms, n, phase, first_ms, after_idle_ms, min_ms, p50_ms, p95_ms, p99_ms, loaded, transport FROM hop_sample s JOIN node src_node ON src_node.id = s.src JOIN node dst_node ON dst_node.id = s.dst;
CREATE VIEW "hop_latest" AS SELECT strftime('%Y-%m-%dT%H:%M:%S', s.ts / 1000000000, 'unixepoch') || printf('.%06dZ', s.ts / 1000 % 1000000) AS time, src_node.name AS src, dst_node.name AS dst, size_bytes AS bytes, cadence_ms, n, phase, first_ms, after_idle_ms, min_ms, p50_ms, p95_ms, p99_ms, loaded, transport  FROM (SELECT src, dst, coalesce((SELECT max(p.ts) FROM pending CROSS JOIN hop_sample p ON p.bucket = number AND p.src = newest.src AND p.dst = newest.dst WHERE unit = 'bucket'), ts) AS at FROM newest WHERE kind = 'hop') n CROSS JOIN hop_sample s ON s.bucket = n.at / 300000000000 AND s.src = n.src AND s.dst = n.dst AND s.ts = n.at JOIN node src_node ON src_node.id = s.src JOIN node dst_node ON dst_node.id = s.dst;
CREATE VIEW "uplink" AS SELECT strftime('%Y-%m-%dT%H:%M:%S', s.ts / 1000000000, 'unixepoch') || printf('.%06dZ', s.ts / 1000 % 1000000) AS time, src_node.name AS src, dst_node.name AS dst, sent_bytes AS bytes, mbps, bound, rtt_idle_ms, rtt_loaded_ms, seconds, transport FROM uplink_sample s JOIN node src_node ON src_node.id = s.src JOIN node dst_node ON dst_node.id = s.dst;
CREATE VIEW "uplink_latest" AS SELECT strftime('%Y-%m-%dT%H:%M:%S', s.ts / 1000000000, 'unixepoch') || printf('.%06dZ', s.ts / 1000 % 1000000) AS time, src_node.name AS src, dst_node.name AS dst, sent_bytes AS bytes, mbps, bound, rtt_idle_ms, rtt_loaded_ms, seconds, transport  FROM (SELECT src, dst, coalesce((SELECT max(p.ts) FROM pending CROSS JOIN uplink_sample p ON p.bucket = number AND p.src = newest.src AND p.dst = newest.dst WHERE unit = 'bucket'), ts) AS at FROM newest WHERE kind = 'uplink') n CROSS JOIN uplink_sample s ON s.bucket = n.at / 300000000000 AND s.src = n.src AND s.dst = n.dst AND s.ts = n.at JOIN node src_node ON src_node.id = s.src JOIN node dst_node ON dst_node.id = s.dst;
CREATE TABLE "host_sample" (
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
  collector_rtt_ms REAL, tcp TEXT, tcp_slow_start_after_idle INTEGER, cpu_pressure_percent REAL,
  PRIMARY KEY (bucket, node, ts, part)
) WITHOUT ROWID;
CREATE VIEW "link" AS SELECT strftime('%Y-%m-%dT%H:%M:%S', s.ts / 1000000000, 'unixepoch') || printf('.%06dZ', s.ts / 1000 % 1000000) AS time, src_node.name AS src, dst_node.name AS dst, path, sent, lost, rtt_min_ms, rtt_p50_ms, rtt_p95_ms, rtt_p99_ms, pdv_ms, jitter_rfc3550_ms, hop_ms, loaded, timestamps, ipdv_ms, duplicates, reordered, ttl_out, ttl_back, why, stamped_out_ms, stamped_back_ms, address, interface FROM link_sample s JOIN node src_node ON src_node.id = s.src JOIN node dst_node ON dst_node.id = s.dst;
CREATE VIEW "link_latest" AS SELECT strftime('%Y-%m-%dT%H:%M:%S', s.ts / 1000000000, 'unixepoch') || printf('.%06dZ', s.ts / 1000 % 1000000) AS time, src_node.name AS src, dst_node.name AS dst, path, sent, lost, rtt_min_ms, rtt_p50_ms, rtt_p95_ms, rtt_p99_ms, pdv_ms, jitter_rfc3550_ms, hop_ms, loaded, timestamps, ipdv_ms, duplicates, reordered, ttl_out, ttl_back, why, stamped_out_ms, stamped_back_ms, address, interface  FROM (SELECT src, dst, coalesce((SELECT max(p.ts) FROM pending CROSS JOIN link_sample p ON p.bucket = number AND p.src = newest.src AND p.dst = newest.dst WHERE unit = 'bucket'), ts) AS at FROM newest WHERE kind = 'link') n CROSS JOIN link_sample s ON s.bucket = n.at / 300000000000 AND s.src = n.src AND s.dst = n.dst AND s.ts = n.at JOIN node src_node ON src_node.id = s.src JOIN node dst_node ON dst_node.id = s.dst;
CREATE VIEW "compute" AS SELECT strftime('%Y-%m-%dT%H:%M:%S', s.ts / 1000000000, 'unixepoch') || printf('.%06dZ', s.ts / 1000 % 1000000) AS time, node.name AS node, device, model, dtype, phase, batch, context, ms_per_layer, ms_p95, verified, ms_p5, n, marks, stage_layers FROM compute_sample s LEFT JOIN node ON node.id = s.node;
CREATE VIEW "host" AS SELECT strftime('%Y-%m-%dT%H:%M:%S', s.ts / 1000000000, 'unixepoch') || printf('.%06dZ', s.ts / 1000 % 1000000) AS time, node.name AS node, cpu_percent, ram_free_bytes / 1073741824.0 AS ram_free_gib, gpu, gpu_util_percent, vram_free_bytes / 1073741824.0 AS vram_free_gib, temp_c, power_w, throttled, clock_mhz, throttle, others, on_battery, nat, collector_rtt_ms, tcp, tcp_slow_start_after_idle, cpu_pressure_percent FROM host_sample s LEFT JOIN node ON node.id = s.node;
INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('swarmtop', 'version 1');
INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('swarmtop', 'version 2');
INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('swarmtop', 'version 3');
INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('swarmtop', 'version 4');
INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('swarmtop', 'version 5');
INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('swarmtop', 'version 6');
INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('swarmtop', 'version 7');
INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('swarmtop', 'version 8');
INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('swarmtop', 'version 9');
INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('swarmtop', 'version 10');
