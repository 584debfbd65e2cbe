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
