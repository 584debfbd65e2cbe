"""Store the links of a snapshot, and choose the figures that each link shows. What is estimated instead of measured
comes from `snapshot.estimates`."""
