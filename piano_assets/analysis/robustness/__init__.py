"""What becomes of predictions when clips are altered."""
