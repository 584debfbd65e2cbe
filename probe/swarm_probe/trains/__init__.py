"""Measure a path's rate by trains of UDP packets: estimate, rounds, bytes on the wire, both ends."""
