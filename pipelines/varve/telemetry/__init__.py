"""What Varve measures of itself."""
