"""What an orchestrator uses: the runtime and handles."""
