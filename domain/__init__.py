"""What is true, whoever asks: tables, rules, verbs, events and errors. Knows SQLModel and nothing else."""
