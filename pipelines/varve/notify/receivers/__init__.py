"""How each kind of receiver is told: one function a kind, from a message to requests."""
