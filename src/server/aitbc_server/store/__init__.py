"""What is durable: the Store seam, and its implementation on SQLite."""
