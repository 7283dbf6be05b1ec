"""Small arrays by every writer at hand, and what each of them must read as."""
