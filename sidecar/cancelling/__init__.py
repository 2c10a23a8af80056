"""The sidecar's own cancels: the owner's way out, and what is done when a key's last connection has gone."""
