"""Measure how fast a path carries bytes: leased TCP and QUIC transfers, and the rate estimated from them. When a
transfer may start is decided by the collector's lease and by `slot_scheduler`."""
