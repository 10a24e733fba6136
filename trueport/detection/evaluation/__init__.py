"""Measures what is shipped on labelled texts. Prints figures, never a text."""
