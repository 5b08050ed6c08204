"""What the operating system is asked for: memory, scheduling, Linux calls, standard files."""
