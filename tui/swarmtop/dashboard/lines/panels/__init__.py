"""Boxes for what is left of a screen: each only where its data exists, in the order of what it is worth."""
