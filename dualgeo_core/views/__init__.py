"""The two views of a photo: features of a frozen image encoder, and the label map of a segmenter."""
