"""Compute, filter and explain the rows of the ranking: one row for each node. Columns and colours are chosen in
`dashboard.lines`, tables for scripts in `commands`."""
