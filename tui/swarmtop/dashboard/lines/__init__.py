"""What the screens say, as styled lines of a given size. No Textual."""
