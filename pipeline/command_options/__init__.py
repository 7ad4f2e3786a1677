"""The options of each command, declared once. These modules are light: they do not load torch."""
