"""The operator's page at the admin listener: the status to look at, and the switch to throw. It decides nothing by itself."""
