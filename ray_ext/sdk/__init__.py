"""What an extension's author imports, and the main loop of a guest.

Standard library and msgspec only: everything here lives in every guest.
"""
