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
