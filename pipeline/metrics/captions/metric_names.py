"""The names of the caption metrics on the command line. Options read them without loading numpy."""

# The order is that of the scores in files and tables. Each is a module of this folder.
METRICS = ("bleu", "meteor", "rouge", "cider")
