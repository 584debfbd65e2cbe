"""Compare reports and predictions with what happened."""
