"""Who may come in: keys.json read and edited, keys looked up and judged. What a key may do is decided in `policy`."""
