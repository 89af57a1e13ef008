"""Built-in plugins of ecgbench, reached through entry points only."""
