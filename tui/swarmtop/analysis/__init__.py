"""What is computed for people from one frame: figures, plan, ranking, reasons. Below both dashboard and commands."""
