"""The record of what was approved, refused and done: chained lines in a file, and their check. Decides nothing."""
