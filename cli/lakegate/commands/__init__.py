"""The commands, a module for each noun; each one is registered in main.py."""
