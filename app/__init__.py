"""The application: window, terminal, local party and demo."""
