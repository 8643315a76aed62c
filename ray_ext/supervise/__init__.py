"""Pure policies of supervision: when a successor is started. No Ray."""
