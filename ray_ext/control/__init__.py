"""The operators' API, without Ray: what is asked and answered, the application that serves it, its client."""
