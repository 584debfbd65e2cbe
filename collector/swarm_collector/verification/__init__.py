"""Check whether reported figures are credible: compute attestation and anomaly detection."""
