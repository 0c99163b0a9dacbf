"""Other data sets turned into a folder of MiniScapes' layout."""
