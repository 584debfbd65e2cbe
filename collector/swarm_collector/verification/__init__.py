"""Whether reported figures can be believed: compute attestation and anomaly detection."""
