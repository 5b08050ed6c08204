"""A chat: its messages, what each act answers, and the words for what went wrong."""
