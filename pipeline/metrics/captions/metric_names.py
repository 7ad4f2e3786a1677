"""The names of the caption metrics on the command line. Options read them without loading numpy."""

# The order is that of the scores in files and tables. Each is a module of this folder.
METRICS = ("bleu", "meteor", "rouge", "cider")

# How papers and tables write the names of scores.json.
LABELS = {**{f"Bleu_{n}": f"BLEU-{n}" for n in (1, 2, 3, 4)}, "ROUGE_L": "ROUGE-L"}
