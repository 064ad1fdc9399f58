"""What series will be in a week, how well that is known, and when a resource runs out."""
