"""One client's conversation with OpenD, over a session of its own."""
