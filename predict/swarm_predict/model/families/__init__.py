"""Read Hugging Face configurations, one reader for each way in which layers are built."""
