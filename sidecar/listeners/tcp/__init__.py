"""The raw TCP door, as OpenD's own port speaks it."""
