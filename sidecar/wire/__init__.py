"""The wire: bytes to frames, bodies to messages, ids to what they mean. No sockets, no asyncio, no rules."""
