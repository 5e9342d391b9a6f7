"""The recipe: where a profile's artifacts lie, what they are signed with, and one function per artifact."""
