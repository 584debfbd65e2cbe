"""The collector: membership, measurement plans, ingest, and the live stream to viewers."""
