"""How requests wait for each other: prompts beside answers, batches under arrivals, and stations that routes share.
Which machines serve, and in how many placements, is decided one folder up."""
