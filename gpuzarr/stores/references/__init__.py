"""References: documents that say which bytes of other files the chunks of an array are."""
