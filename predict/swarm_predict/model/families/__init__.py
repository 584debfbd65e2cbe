"""Readers of Hugging Face configurations, one for each way in which layers are built."""
