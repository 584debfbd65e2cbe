"""What a model is: shapes, weight formats, and the configuration files that describe them."""
