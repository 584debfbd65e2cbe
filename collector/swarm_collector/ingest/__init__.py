"""From a received batch to a committed one: validation, quotas, the store. Nothing here shows or judges samples."""
