"""The model: DeepEncoder reads pages into few vision tokens, a mixture-of-experts decoder turns them into
text.
"""
