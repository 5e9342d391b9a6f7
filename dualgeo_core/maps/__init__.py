"""The one renderer of maps: a script and a style that a page embeds or serves, and the records that they draw."""
