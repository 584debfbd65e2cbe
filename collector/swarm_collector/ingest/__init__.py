"""Take batches from receipt to commit: validation, quotas, the store. Nothing here shows or judges samples."""
