"""The lab's synthetic language: words, grammar, documents, and questions planted in them."""
