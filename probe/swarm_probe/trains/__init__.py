"""Trains of UDP packets that show a path's rate: estimate, rounds, bytes on the wire, both ends."""
