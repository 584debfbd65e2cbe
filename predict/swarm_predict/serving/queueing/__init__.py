"""Model how requests delay each other: prefill beside decoding, batches under arrivals, and stations that routes share.

The parent package decides which machines serve, and in how many placements.
"""
