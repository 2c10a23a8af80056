"""The MCP door; only `server` needs the package `mcp`."""
