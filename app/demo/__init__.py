"""The demo: two node processes on this machine, the demo model, and a chat with them."""
