"""Training: from a data set to a model bundle that the service can serve. PyTorch lives here and nowhere else.

    python -m training --recipe mnist-mlp --data-dir DIR

One way through the rooms: `recipe` reads what is wanted, `data` the images, `networks` and `objective` say what is
learned, `train` is the loop, `checkpoint` its memory, `score` its validation, `world` the processes that share it;
`prior` fits what the service samples from, `evaluate` judges the exported graphs, with the `classifier` as its eye;
`export` and `card` write the bundle, `compare` sets runs side by side.
"""
