"""One supervised process: its life, its starts, and what it is handed."""
