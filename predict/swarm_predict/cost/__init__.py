"""Compute what each visit, layer and hop costs, as arrays over the nodes. Draws and totals are in `forecast`."""
