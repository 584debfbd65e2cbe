"""What all parts share: messages, units, identity, STAMP packets and the Swarm snapshot.

Everything here is plain data and pure functions. Modules that need numpy (`swarm`, `swarm_file`, `builder`,
`frames`) are never imported by the probe.
"""

__version__ = "0.1.0"
