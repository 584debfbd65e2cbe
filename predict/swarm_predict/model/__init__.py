"""Describe models: shapes, weight formats, and the configuration files that define them."""
