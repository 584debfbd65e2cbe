"""Format values, predictions and samples as text for people and files, without Textual."""
