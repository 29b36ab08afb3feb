"""`python -m train.convert`: the weights that DeepSeek-OCR was released with, in and out."""
