"""What every key has used and whose every order is: in memory, and in a file that survives. Decides nothing."""
