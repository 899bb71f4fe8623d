"""What `doctor` is made of: `facts` looks, `checks` and `torch_checks` judge, `probe` tries torch out.

Nothing here needs more than the standard library to be imported: it must speak where all else is broken.
"""
