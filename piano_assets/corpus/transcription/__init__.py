"""Notes and pedals heard in the sound of clips, and how well they were heard."""

TRANSCRIBED = "transcribed."
"""What the name of a rendering starts with where note-level features are those of what was heard in it."""
