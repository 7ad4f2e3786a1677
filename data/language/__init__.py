"""Rules and word lists that find objects, attributes and actions in English captions."""
