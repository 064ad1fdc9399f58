"""Rules over the past: what would have fired, and who would have been told."""
