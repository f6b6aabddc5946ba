"""Tokenizers and chat templates of published models.

Tokenizers come from npm packages (package.json), of which only tokenizer.json and
tokenizer_config.json are read; nothing in them is run. Templates come from there, from TRL, or
from templates/, written in the form of the published ones.
"""
