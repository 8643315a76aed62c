"""Pure: versions, the resolution of dependencies, plans and their explanations."""
