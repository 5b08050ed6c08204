"""The command lines `trine` and `trine-model`, and chatting in a terminal."""
