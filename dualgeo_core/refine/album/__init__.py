"""Albums: the photos of one camera of one photographer, located together."""
