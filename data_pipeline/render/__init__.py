"""Typesetting: text → a grey page, its line and word boxes, and its glyph map."""
