"""What happens later and elsewhere: the worker, its tasks, and the adapters to every provider."""
