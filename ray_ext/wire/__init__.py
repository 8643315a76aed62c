"""Frames, messages and values between caller, host and guest (see ``docs/internals.md``).

Standard library and msgspec only: guests import this package.
"""
