"""Compose the text of the screens as styled lines of a given size. No Textual."""
