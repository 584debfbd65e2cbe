"""Provide byte streams to a peer for hops and transfers: TCP, QUIC, or relayed by the collector."""
