"""Decoder layers in torch, built from a LayerShape; used by timing and by the lab's engine."""
