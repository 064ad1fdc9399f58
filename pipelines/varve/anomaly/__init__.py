"""What is usual for a series, which windows are not, and which of these make an episode."""
