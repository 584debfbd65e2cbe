"""Define data types and pure functions for all parts: messages, units, identity, packets and the Swarm snapshot.

Everything here is plain data and pure functions. Modules that need numpy (`swarm`, `swarm_file`, `builder`, `frames`)
are never imported by the probe.
"""

__version__ = "0.1.0"
