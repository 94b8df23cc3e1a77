"""What goes on inside trained models, and where they err."""
