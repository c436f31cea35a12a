"""Training: from a data set to a model bundle that the service can serve. PyTorch lives here and nowhere else.

    python -m training --recipe mnist-mlp --data-dir DIR

One way through the rooms: `recipe` reads what is wanted, `data` the images, `model` and `objective` say what is
learned, `train` is the loop, `checkpoint` its memory, `evaluate` the judge, `export` and `card` write the bundle.
"""
