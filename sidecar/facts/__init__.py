"""What a request does not say: accounts, instruments and prices, asked over the house connection. Decides nothing."""
