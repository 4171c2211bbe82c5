"""From files to encoded examples: read, split, clean, tokenise, order, batch."""
