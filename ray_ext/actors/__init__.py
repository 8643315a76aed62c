"""The Ray actors (registry, host) and what they are thin shells around."""
