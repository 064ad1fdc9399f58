"""Discovery by Kubernetes: objects of its API followed, and the targets that they stand for."""
