"""What other keys would have decided of the orders of an audit: `recorded` reads them, `judge` decides them anew, `replay` goes
through them and rebuilds what was used."""
