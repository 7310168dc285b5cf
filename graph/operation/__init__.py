"""What those see who look after the whole installation."""
