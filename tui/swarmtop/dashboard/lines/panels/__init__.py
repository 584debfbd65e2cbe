"""Draw boxes in the spare space of a screen: each only where its data exists, the most useful first."""
