"""Establish identities and proofs: node keys, signatures, certificate pins, attestation arithmetic."""
