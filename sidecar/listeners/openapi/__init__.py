"""The REST door described for programs (`document`) and for people (`page`)."""
