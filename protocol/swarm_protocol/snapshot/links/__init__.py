"""Store the links of a snapshot, and choose the figures that each link shows. Nodes, events and frames are one level
up; what is estimated instead of measured comes from `snapshot.estimates`."""
