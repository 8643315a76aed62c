"""Calling extensions through Ray: handles, channels, routes, and the registry that they ask. Hosts may use it, too."""
