"""The two views of a photo: a frozen image encoder's features, and a segmenter's label map; each computed once."""
