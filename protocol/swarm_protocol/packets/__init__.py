"""Convert UDP packets to bytes and back: STAMP and STUN."""
