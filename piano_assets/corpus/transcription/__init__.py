"""Notes and pedals heard in the sound of clips, and how well they were heard."""

TRANSCRIBED = "transcribed."
"""What the name of a rendering starts with where note-level features are those of what was heard in it."""
AS_HEARD = "as_heard."
"""What it starts with where they are those of the true notes as a transcriber would have heard them (`likeness`)."""
