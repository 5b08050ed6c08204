"""The chat window. Nothing is imported here, so that the command line starts without Qt."""
