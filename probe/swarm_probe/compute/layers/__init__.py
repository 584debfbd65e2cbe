"""Build decoder layers in torch from a LayerShape; used by timing and by the lab's engine."""
