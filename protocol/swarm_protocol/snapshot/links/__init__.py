"""Store the links of a snapshot, choose the figures each link shows, and estimate what no probe measured: one-way
delays and the round trips of unmeasured pairs. Nodes, events and frames are one level up."""
